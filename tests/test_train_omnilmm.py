"""OmniLMM through the commands: DPO of all of it, or of all but the tower; chat, candidates and export."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from configs import iterate_omnilmm12b, omnilmm12b
from convert.export import export_model
from convert.load import open_model
from rlaifv_jax import generate
from rlaifv_jax.chat import Chat
from rlaifv_jax.errors import UserError
from rlaifv_jax.rounds import check
from rlaifv_jax.train import train
from tests import world
from tests.convert.omnilmms import TinyOmniLmm, write_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("omnilmm")
    tokenizer = write_tokenizer(folder / "tokenizer", tokenizer_dir)
    return TinyOmniLmm(vocab=649, window=64).write(folder / "model", tokenizer=tokenizer)


def run(model: Path, folder: Path, **changes: Any) -> Path:
    """Six steps; returns the output directory."""
    config = omnilmm12b.get_config()
    config.model.path, config.output_dir = str(model), str(folder / "run")
    config.data.path = str(world.write_pairs(folder / "pairs.parquet", 16))
    config.data.workers, config.precision.compute, config.optim.lr = 0, "float32", 1e-3
    config.train.steps, config.checkpoint.every, config.train.batch_pairs = 6, 6, 8
    world.set_keys(config, changes)
    train(config)
    return folder / "run"


@pytest.mark.parametrize(("vision", "projector"), [(True, True), (False, True), (False, False)])
def test_dpo(model: Path, tmp_path: Path, vision: bool, projector: bool) -> None:
    out = run(model, tmp_path, train__vision=vision, train__projector=projector)
    losses = [line["loss"] for line in world.metrics(out)]
    assert losses[0] == pytest.approx(np.log(2), abs=1e-5)
    assert losses[-1] < 0.6
    leaves, after = open_model(model).leaves, world.weights(out, 6)
    stacked = {path: "/layers/" in path for path in leaves}
    before = {path: leaf.read(1 if stacked[path] else None) for path, leaf in leaves.items()}
    after = {path: leaf[1] if stacked[path] else leaf for path, leaf in after.items()}
    still = {"vision": not vision, "resampler": not projector}
    for path, was in before.items():
        changed = not np.array_equal(after[path], was.astype(after[path].dtype))
        expected = path != "resampler/position" and not still.get(path.split("/")[0], False)
        if not path.endswith("/bias") and "embedding" not in path:  # some biases get no gradient to speak of
            assert changed == expected, path


def test_what_comes_out_goes_on(model: Path, tmp_path: Path) -> None:
    """Chat and candidates with a checkpoint; and back to the original's files, tower and all."""
    out = run(model, tmp_path)
    newest = out / "weights" / "6"
    assert isinstance(Chat(newest).chat(None, "what ?", max_new_tokens=4, seed=0), str)
    question = {"question": "what ?", "ds_question_id": "a"}
    (tmp_path / "q.jsonl").write_text(json.dumps(question) + "\n")
    arguments = [
        "--model",
        str(newest),
        "--questions",
        str(tmp_path / "q.jsonl"),
        "--output",
        str(tmp_path / "a.jsonl"),
    ]
    given = generate.parse_arguments([*arguments, "--n", "3", "--max-new-tokens", "8", "--repetition-penalty", "1.1"])
    assert generate.generate(given) == 0
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 3
    export_model(open_model(newest), tmp_path / "exported", "original")
    exported = load_file(tmp_path / "exported" / "model.safetensors")
    assert exported.keys() == TinyOmniLmm(vocab=649).tensors.keys()
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["model_type"] == "omnilmm"


def test_templates_of_others_are_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="template is 'llava_v1', but omnilmm shows pictures by tokens of its own"):
        run(model, tmp_path, data__template="llava_v1")


def test_rounds_of_the_12b() -> None:
    """Its config has no setting that is found wrong; only what it is to read is missing."""
    config = iterate_omnilmm12b.get_config()
    assert config.training.train.vision
    assert config.feedback.score.model == config.model.path == "openbmb/OmniLMM-12B"
    config.questions = config.select.questions = "questions.jsonl"
    for stage in ("divide", "question"):
        config.feedback[stage].function = "rlaifv_jax.shapes.claims:split"
    check(config)


def test_a_run_goes_on_with_the_parts_it_trains(model: Path, tmp_path: Path) -> None:
    run(model, tmp_path)
    for changes in ({"train__projector": False}, {"train__vision": False, "resume__allow_changed": True}):
        with pytest.raises(UserError, match=r"its optimizer state is of other parameters"):
            run(model, tmp_path, train__steps=8, **changes)
