"""Whole runs with adapters, in this process."""

import json
import math
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from configs import llava15_lora
from convert.inspect import describe
from convert.load import import_model, open_model
from rlaifv_jax.chat import Chat
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.blueprint import flat
from rlaifv_jax.train import train
from tests import world
from tests.convert.muffins import TinyMuffin, write_muffin_tokenizer
from tests.convert.omnilmms import TinyOmniLmm, write_tokenizer


@pytest.fixture(scope="module")
def setting(tmp_path_factory, tokenizer_dir):
    """(folder, model, pairs), and an unbroken run in folder/whole."""
    folder = tmp_path_factory.mktemp("lora")
    paths = folder, world.write_model(folder / "model", tokenizer_dir), world.write_pairs(folder / "pairs.parquet", 19)
    train(config(paths, "whole"))
    return paths


def config(paths, output, **changes):
    folder, model, data = paths
    values = llava15_lora.get_config()
    values.model.path, values.data.path, values.output_dir = str(model), str(data), str(folder / output)
    values.data.workers, values.precision.compute, values.optim.lr = 0, "float32", 1e-3
    values.train.steps, values.checkpoint.every, values.train.accumulate = 6, 2, 2
    values.lora.rank, values.lora.dropout = 4, 0.1
    world.set_keys(values, changes)
    return values


def test_the_run_begins_as_the_base_and_learns(setting):
    lines = world.metrics(setting[0] / "whole")
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_every_checkpoint_is_a_model_with_its_own_projector(setting):
    folder, model, _ = setting
    base = open_model(model)
    models = [open_model(folder / "whole" / "weights" / str(step)) for step in (2, 4, 6)]
    assert [model.template for model in models] == ["llava_v1"] * 3
    projectors = [model.leaves["projector/first/kernel"].read(None) for model in (base, *models)]
    assert all(not np.array_equal(a, b) for n, a in enumerate(projectors) for b in projectors[:n])
    kernels = [model.leaves["decoder/layers/mlp/up/kernel"].read(1) for model in (base, *models)]
    assert all(not np.array_equal(a, b) for n, a in enumerate(kernels) for b in kernels[:n])
    np.testing.assert_array_equal(
        models[0].leaves["decoder/embedding"].read(None), base.leaves["decoder/embedding"].read(None)
    )
    assert not (folder / "whole" / "weights" / "6" / "model.safetensors").exists()
    kept = (folder / "whole" / "checkpoints" / "6" / "state" / "_METADATA").read_text()
    assert "adapter" in kept
    assert "embedding" not in kept  # the state of training, without the base


def test_resumed_is_unbroken_bit_for_bit(setting):
    folder = setting[0]
    shutil.copytree(folder / "whole", folder / "again")
    shutil.rmtree(folder / "again" / "checkpoints" / "6")
    for step in (4, 6):  # as if a kill had come before the adapters were written
        (folder / "again" / "weights" / str(step) / "adapter_config.json").unlink()
    train(config(setting, "again"))
    assert world.metrics(folder / "again") == world.metrics(folder / "whole")
    for step in ("4", "6"):
        for name in ("adapter_model.safetensors", "adapter_config.json"):
            one, other = (folder / run / "weights" / step / name for run in ("again", "whole"))
            assert one.read_bytes() == other.read_bytes(), (step, name)


def test_another_base_is_refused_on_resume(setting, tokenizer_dir):
    folder = setting[0]
    shutil.copytree(folder / "whole", folder / "moved")
    shutil.rmtree(folder / "moved" / "checkpoints" / "6")
    other = world.write_model(folder / "other", tokenizer_dir, seed=9)
    values = config(setting, "moved", model__path=str(other), resume__allow_changed=True)
    with pytest.raises(UserError, match="is not the model that the run in"):
        train(values)
    with pytest.raises(UserError, match=r"lora.rank=4, now 8"):
        train(config(setting, "moved", lora__rank=8, resume__allow_changed=True))


def test_training_goes_on_from_adapters(setting):
    """They are a model like any other, and its own reference."""
    folder = setting[0]
    start = folder / "whole" / "weights" / "6"
    train(config(setting, "second", model__path=str(start), train__steps=2))
    assert world.metrics(folder / "second")[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    written = json.loads((folder / "second" / "weights" / "2" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(start)
    open_model(folder / "second" / "weights" / "2")


def test_an_int8_base(setting):
    train(config(setting, "int8", lora__base="int8", train__steps=3))
    lines = world.metrics(setting[0] / "int8")
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert lines[0]["logps_train/ref_chosen"] != world.metrics(setting[0] / "whole")[0]["logps_train/ref_chosen"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora__rank": -1}, "lora.rank is -1; it must be 0 or more"),
        ({"lora__alpha": 0.0}, "lora.alpha is 0.0; it must be above 0"),
        ({"lora__dropout": 1.0}, "lora.dropout is 1.0; it must lie in 0 … 1, below 1"),
        ({"lora__targets": ("q_proj", "lm_head")}, "lora.targets is ('q_proj', 'lm_head'); give one or more of q_proj"),
        ({"lora__targets": ()}, "lora.targets is ()"),
        ({"lora__base": "int4"}, "lora.base is 'int4'; it can be '' or 'int8'"),
        ({"lora__base": "int8", "lora__rank": 0}, "lora.base is 'int8', but lora.rank is 0"),
        ({"train__vision": True}, "train.vision is set, but with lora.rank the image tower stays as it is"),
    ],
)
def test_keys_that_cannot_work(setting, changes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        train(config(setting, "none", **changes))


def test_of_other_families(tmp_path, tokenizer_dir):
    """OmniLMM's resampler, whose projections are pieces of one tensor in its files, and Muffin's linear map."""
    pairs = world.write_pairs(tmp_path / "pairs.parquet", 8)
    tokenizer = write_tokenizer(tmp_path / "a", tokenizer_dir)
    omnilmm = TinyOmniLmm(vocab=649, window=64).write(tmp_path / "omnilmm", tokenizer=tokenizer)
    tokenizer = write_muffin_tokenizer(tmp_path / "b", tokenizer_dir)
    muffin = TinyMuffin(vocab=648).write(tmp_path / "muffin", tokenizer=tokenizer)
    for model, whole in ((omnilmm, "resampler"), (muffin, "mm_projector")):
        output = tmp_path / f"run-{whole}"
        train(config((tmp_path, model, pairs), output.name, train__steps=2, train__accumulate=1))
        assert world.metrics(output)[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
        settings = json.loads((output / "weights" / "2" / "adapter_config.json").read_text())
        assert settings["modules_to_save"] == [whole]
        base, found = open_model(model), open_model(output / "weights" / "2")

        def values(opened):
            return {path: leaf.read(0 if "layers" in path else None) for path, leaf in opened.leaves.items()}

        before, after = values(base), values(found)
        changed = {path for path, value in before.items() if not np.array_equal(value, after[path])}
        assert "decoder/layers/mlp/down/kernel" in changed
        assert any(path.startswith(base.family.connector) for path in changed)
        assert all(path.startswith((base.family.connector, "decoder/layers/")) for path in changed)


def test_they_speak_as_the_merged_model_does(setting):
    folder = setting[0]
    adapters = folder / "whole" / "weights" / "6"
    import_model(open_model(adapters), folder / "merged")
    picture, answers = Image.new("RGB", (40, 30), (200, 30, 30)), []
    for model in (adapters, folder / "merged"):
        chat = Chat(model)
        answers.append(chat.chat(picture, "What is in the picture?", max_new_tokens=24, num_beams=1))
        assert any("adapter" in path for path in flat(chat.speaker.load_stacked())) == (model is adapters)
    assert answers[0] == answers[1]
    assert answers[0]


def test_inspect_says_what_they_are(setting):
    said = describe(setting[0] / "whole" / "weights" / "6")
    assert f"of {setting[1]}; what follows is the two merged" in said
    assert "rank, alpha:    4, 16" in said
