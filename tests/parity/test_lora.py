"""Adapters against PEFT beside transformers' LLaVA, float32."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from convert.__main__ import main as convert_main
from convert.adapter_files import export_adapter, write_adapter
from convert.adapters import apart
from convert.load import open_model
from rlaifv_jax.errors import UserError
from rlaifv_jax.losses import evaluate
from rlaifv_jax.models import lora
from rlaifv_jax.models.blueprint import flat, nested, split_frozen
from rlaifv_jax.models.lora import PATHS, Lora
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.step import Step, log_probs
from tests import tiny
from tests.convert.llavas import TinyLlava
from tests.parity import two_rows
from tests.parity.forward import assert_close_logits, our_logits, rows, torch_logits

IMAGE = 98
RANK, ALPHA = 4, 6.0
TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def on_one_device(model):
    return model.load(make_mesh(1, 1, 1, jax.devices()[:1]))


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """(PEFT's model with random adapters and another projector, our base, directory of the adapters)."""
    folder = tmp_path_factory.mktemp("adapted")
    base = TinyLlava(kv_heads=2).write(folder / "base", "transformers-5")
    config = LoraConfig(
        r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=TARGETS, modules_to_save=["multi_modal_projector"]
    )
    model = get_peft_model(TinyLlava(kv_heads=2).torch, config)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(0, 0.1)
            elif parameter.requires_grad and "modules_to_save" in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    model.peft_config["default"].base_model_name_or_path = str(base)
    model.save_pretrained(folder / "adapter")
    return model.eval(), open_model(base), folder / "adapter"


def test_adapters_of_peft_are_merged_when_they_are_opened(adapted):
    model, base, directory = adapted
    merged = open_model(directory)
    batch = rows(base.config, 97)
    theirs = torch_logits(model, batch, base.config, IMAGE).numpy()
    ours = our_logits(merged.blueprint, on_one_device(merged), batch)
    without = our_logits(base.blueprint, on_one_device(base), batch)
    assert np.abs(without - theirs).max() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    whole = make_mesh(1, 4, 2, jax.devices()[:8])  # where every device reads slices
    for path, leaf in flat(merged.load(whole)).items():
        np.testing.assert_array_equal(leaf, flat(on_one_device(merged))[path], err_msg=path)


def test_apart_they_are_beside_the_base_as_in_training(adapted):
    """What generation and scores load: in bfloat16 merged weights would round most of a small change away."""
    model, base, directory = adapted
    beside = apart(open_model(directory))
    params = flat(on_one_device(beside))
    for path, value in {**flat(on_one_device(base)), **trained(model, base, "data")}.items():
        np.testing.assert_array_equal(params.pop(path), value, err_msg=path)
    assert not params
    whole = make_mesh(1, 4, 2, jax.devices()[:8])
    for path, leaf in flat(beside.load(whole)).items():
        np.testing.assert_array_equal(leaf, flat(on_one_device(beside))[path], err_msg=path)
    assert apart(base) is base


def test_gradients_are_those_of_peft(adapted):
    model, base, _ = adapted
    rng = np.random.default_rng(0)
    items = [tiny.item(rng) for _ in range(6)]
    images = np.concatenate([item.image.pixels for item in items]).astype(np.float32) / 255
    images = (images - np.float32(base.config.image_mean)) / np.float32(base.config.image_std)
    batch = two_rows.collate(items, torch.from_numpy(images.transpose(0, 3, 1, 2).copy()), IMAGE)
    reference = torch.tensor([float(part.sum()) for branch in (0, 1) for part in (i.reference[branch] for i in items)])
    model.zero_grad()
    loss = two_rows.dpo_loss(two_rows.log_prob_sums(model, batch), reference, beta=0.1)
    loss.backward()

    adapters = Lora(RANK, ALPHA, 0.0, tuple(PATHS), "")
    plan = lora.overlay(base.blueprint, adapters)
    step = Step(plan, tiny.DPO, tiny.COMPUTE, "float32", adapters)
    values = {**flat(on_one_device(base)), **trained(model, base, "data")}
    params, frozen = split_frozen(nested(values), ("vision", *lora.untrained(plan)))
    rows = jax.tree.map(lambda leaf: leaf[0], tiny.batch([[item] for item in items]))

    def ours(params):
        sums = evaluate(log_probs(params, frozen, rows, step), rows, step.objective)
        return sums.loss / sums.divisor

    value, gradients = jax.jit(jax.value_and_grad(ours))(params)
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    expected = trained(model, base, "grad")
    assert flat(gradients).keys() == expected.keys()
    for path, gradient in flat(gradients).items():
        scale = np.abs(expected[path]).max()
        np.testing.assert_allclose(gradient, expected[path], atol=1e-5 * scale, rtol=0, err_msg=path)


def trained(model, base, what):
    """Values or gradients of what PEFT trains, by our parameter paths."""
    named = {name: getattr(p, what).numpy() for name, p in model.named_parameters() if p.requires_grad}
    stem = "base_model.model.model."
    projector = f"{stem}multi_modal_projector.modules_to_save.default."
    found = {}
    for ours, theirs in (("first", "linear_1"), ("second", "linear_2")):
        found[f"projector/{ours}/kernel"] = jnp.asarray(named[f"{projector}{theirs}.weight"].T)
        found[f"projector/{ours}/bias"] = jnp.asarray(named[f"{projector}{theirs}.bias"])
    for name, path in PATHS.items():
        module = f"{'mlp' if path.startswith('mlp') else 'self_attn'}.{name}"
        for ours, theirs in (("down", "lora_A"), ("up", "lora_B")):
            layers = [
                named[f"{stem}language_model.layers.{layer}.{module}.{theirs}.default.weight"].T
                for layer in range(base.config.decoder.layers)
            ]
            found[f"decoder/layers/{path}/adapter/{ours}"] = jnp.asarray(np.stack(layers))
    return found


@pytest.mark.parametrize("targets", [tuple(PATHS), ("q_proj", "v_proj")], ids=["all", "two"])
def test_what_we_write_opens_with_peft(adapted, tmp_path, targets):
    model, base, _ = adapted
    values = {path: np.asarray(value) for path, value in trained(model, base, "data").items()}
    paths = tuple(f"decoder/layers/{PATHS[name]}/" for name in targets)
    values = {path: value for path, value in values.items() if path.startswith(("projector", *paths))}
    adapters = Lora(RANK, ALPHA, 0.05, targets, "")
    write_adapter(tmp_path / "ours", values, base, adapters, str(base.directory), "llava_v1")
    theirs = PeftModel.from_pretrained(TinyLlava(kv_heads=2).torch, tmp_path / "ours").eval()
    assert sum("lora_A" in name for name, _ in theirs.named_parameters()) == 2 * len(targets)
    batch = rows(base.config, 97)
    expected = torch_logits(theirs, batch, base.config, IMAGE).numpy()

    plan = lora.overlay(base.blueprint, adapters)
    unmerged = our_logits(plan, nested(flat(on_one_device(base)) | values), batch)
    np.testing.assert_allclose(unmerged, expected, atol=1e-5, rtol=0)
    opened = open_model(tmp_path / "ours")
    assert opened.template == "llava_v1"
    merged = our_logits(opened.blueprint, on_one_device(opened), batch)
    np.testing.assert_allclose(merged, unmerged, atol=1e-5, rtol=0)


def test_between_layouts_and_back(adapted, tmp_path):
    model, base, directory = adapted
    opened = open_model(directory)
    export_adapter(opened, tmp_path / "original", "original", "keep")
    again = open_model(tmp_path / "original")
    for path, leaf in flat(on_one_device(opened)).items():
        np.testing.assert_array_equal(leaf, flat(on_one_device(again))[path], err_msg=path)
    export_adapter(again, tmp_path / "hf", "llava-hf", "keep")
    theirs = PeftModel.from_pretrained(TinyLlava(kv_heads=2).torch, tmp_path / "hf").eval()
    batch = rows(base.config, 97)
    expected = torch_logits(model, batch, base.config, IMAGE)
    np.testing.assert_array_equal(torch_logits(theirs, batch, base.config, IMAGE), expected)


def test_a_pair_of_the_original_code(adapted, tmp_path):
    """adapter_model.bin and non_lora_trainables.bin under the names of haotian-liu/LLaVA, beside such a base."""
    model, base, _ = adapted
    pair = tmp_path / "llava-lora"
    pair.mkdir()
    original = TinyLlava(kv_heads=2).write(tmp_path / "base")
    named = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    stem = "base_model.model.model."
    adapters = {
        name.replace("language_model.", "").replace(".default", ""): value
        for name, value in named.items()
        if "lora_" in name
    }
    projector = {
        f"{stem}mm_projector.{number}.{kind}": named[
            f"{stem}multi_modal_projector.modules_to_save.default.{module}.{kind}"
        ]
        for number, module in ((0, "linear_1"), (2, "linear_2"))
        for kind in ("weight", "bias")
    }
    torch.save(adapters, pair / "adapter_model.bin")
    torch.save(projector, pair / "non_lora_trainables.bin")
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "base_model_name_or_path": str(original)}
    (pair / "adapter_config.json").write_text(json.dumps(settings))
    opened = open_model(pair)
    batch = rows(base.config, 97)
    expected = torch_logits(model, batch, base.config, IMAGE).numpy()
    found = our_logits(opened.blueprint, on_one_device(opened), batch)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


def test_a_merged_export_opens_in_transformers(adapted, tmp_path, tokenizer_dir):
    from transformers import LlavaForConditionalGeneration

    from convert.export import export_model

    _, _, directory = adapted
    opened = open_model(directory)
    export_model(opened, tmp_path / "merged", "llava-hf")
    hf = LlavaForConditionalGeneration.from_pretrained(tmp_path / "merged").eval()
    image = open_model(tmp_path / "merged").raw_config["image_token_index"]
    assert_close_logits(hf, opened.blueprint, on_one_device(opened), image, 97)


def damage(directory: Path, target: Path, **changes):
    target.mkdir()
    for file in directory.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    config = json.loads((target / "adapter_config.json").read_text())
    (target / "adapter_config.json").write_text(json.dumps(config | changes))
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA', which is not supported; it must be 'LORA'"),
        ({"use_dora": True}, "use_dora is True"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern is"),
        ({"r": 8}, "for rank 8 and the base model it must be"),
        ({"base_model_name_or_path": None}, "base_model_name_or_path is not set"),
        ({"base_model_name_or_path": "nowhere/at/all"}, "nowhere/at/all is neither a directory nor a hub id"),
    ],
)
def test_adapters_that_cannot_be_used(adapted, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        open_model(damage(adapted[2], tmp_path / "damaged", **changes))


def test_adapters_of_another_model(adapted, tmp_path, tokenizer_dir):
    other = TinyLlava(kv_heads=4).write(tmp_path / "other")
    with pytest.raises(UserError, match=r"adapter of .*k_proj is \[4, 48\] and \[24, 4\]"):
        open_model(damage(adapted[2], tmp_path / "damaged", base_model_name_or_path=str(other)))
    missing = damage(adapted[2], tmp_path / "missing")
    (missing / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match="the download is incomplete"):
        open_model(missing)


def test_adapters_over_adapters(adapted, tmp_path, capsys):
    """Those above alone are exported, with a word on what PEFT makes of such a base."""
    _, base, directory = adapted
    rng = np.random.default_rng(0)
    plan = lora.overlay(base.blueprint, Lora(2, 32.0, 0.0, ("q_proj",), ""))
    shapes = {path: leaf.shape for path, leaf in flat(plan.shapes).items() if lora.ADAPTER in path}
    values = {path: rng.normal(0, 0.1, shape).astype(np.float32) for path, shape in shapes.items()}
    write_adapter(tmp_path / "above", values, base, Lora(2, 32.0, 0.0, ("q_proj",), ""), str(directory))
    above = open_model(tmp_path / "above")
    assert above.adapters.bases == (str(directory), str(base.directory))
    export_adapter(above, tmp_path / "exported", "original", "keep")
    assert "which PEFT does not follow" in capsys.readouterr().err
    beside = flat(apart(above).blueprint.shapes)
    assert {path for path in beside if lora.ADAPTER in path} == set(shapes)
    for path, leaf in flat(on_one_device(above)).items():
        np.testing.assert_array_equal(leaf, flat(on_one_device(open_model(tmp_path / "exported")))[path], err_msg=path)


def test_a_base_is_not_written_over(adapted, tmp_path, monkeypatch, capsys):
    _, base, directory = adapted
    for where in (base.directory, base.directory.parent):
        arguments = ["convert", "export", str(directory), str(where), "--layout", "original", "--force"]
        monkeypatch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as ended:
            convert_main()
        assert ended.value.code == 2
        assert re.search("is what the adapters lie beside|contains SRC|is no model", capsys.readouterr().err)


def test_a_circle_of_adapters(adapted, tmp_path):
    damage(adapted[2], tmp_path / "one", base_model_name_or_path="../two")
    damage(adapted[2], tmp_path / "two", base_model_name_or_path="../one")
    with pytest.raises(UserError, match="base_model_name_or_path leads back to"):
        open_model(tmp_path / "one")
