"""Every layout and file form gives the same parameters; nothing is lost, left over or bent without a word."""

import json
import shutil
from pathlib import Path

import jax
import ml_dtypes
import numpy as np
import pytest
import torch
from jax.sharding import Mesh
from transformers import CLIPVisionModel

from convert.layouts import LAYOUTS
from convert.load import import_model, open_model
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.blueprint import flat
from rlaifv_jax.parallel import make_mesh
from tests.convert.llavas import FORMATS, TinyLlava, write_weights


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return make_mesh(1, 1, 1, jax.devices()[:1])


def params_of(path: Path, mesh: Mesh, **options: object) -> dict[str, np.ndarray]:
    return {name: np.asarray(leaf) for name, leaf in flat(open_model(path, **options).load(mesh)).items()}


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.fixture(scope="module")
def truth(tiny_llava: TinyLlava, tmp_path_factory: pytest.TempPathFactory, mesh: Mesh) -> dict[str, np.ndarray]:
    return params_of(tiny_llava.write(tmp_path_factory.mktemp("truth")), mesh)


def test_the_table_puts_tensors_where_they_belong(tiny_llava: TinyLlava, truth: dict[str, np.ndarray]) -> None:
    hf = {name: tensor.numpy() for name, tensor in tiny_llava.tensors.items()}
    gate = np.stack([hf[f"model.language_model.layers.{i}.mlp.gate_proj.weight"].T for i in range(2)])
    np.testing.assert_array_equal(truth["decoder/layers/mlp/gate/kernel"], gate)
    patch = hf["model.vision_tower.embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(truth["vision/patch"], patch)
    spare = hf["model.vision_tower.encoder.layers.2.layer_norm1.weight"]
    np.testing.assert_array_equal(truth["vision/unused/layers/attention_norm/scale"], spare[None])
    assert sum(leaf.size for leaf in truth.values()) == sum(tensor.size for tensor in hf.values())


@pytest.mark.parametrize("layout", [layout.name for layout in LAYOUTS["llava"]])
@pytest.mark.parametrize("form", FORMATS)
def test_all_layouts_and_forms(
    layout: str, form: str, tiny_llava: TinyLlava, truth: dict[str, np.ndarray], tmp_path: Path, mesh: Mesh
) -> None:
    folder = tiny_llava.write(tmp_path, layout, form)
    assert open_model(folder).source_layout == layout
    assert_same(params_of(folder, mesh), truth)


def test_orbax_directory(tiny_llava: TinyLlava, truth: dict[str, np.ndarray], tmp_path: Path, mesh: Mesh) -> None:
    import_model(open_model(tiny_llava.write(tmp_path / "hf")), tmp_path / "ours", "llava_v1")
    ours = open_model(tmp_path / "ours")
    assert (ours.source_layout, ours.template) == ("original", "llava_v1")
    assert_same(params_of(tmp_path / "ours", mesh), truth)


@pytest.mark.parametrize("form", ["hf", "orbax"])
@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2)])
def test_onto_eight_devices(
    form: str,
    sizes: tuple[int, int, int],
    grouped_llava: TinyLlava,
    tmp_path: Path,
    mesh: Mesh,
) -> None:
    folder = grouped_llava.write(tmp_path / "hf")
    whole = params_of(folder, mesh)
    if form == "orbax":
        import_model(open_model(folder), tmp_path / "ours")
        folder = tmp_path / "ours"
    loaded = flat(open_model(folder).load(make_mesh(*sizes), lambda path: ml_dtypes.bfloat16))
    gate = loaded["decoder/layers/mlp/gate/kernel"]
    assert gate.addressable_shards[0].data.shape == (2, 48 // sizes[1], 96 // sizes[2])
    assert_same(
        {name: np.asarray(leaf) for name, leaf in loaded.items()},
        {name: leaf.astype(ml_dtypes.bfloat16) for name, leaf in whole.items()},
    )


def test_dtypes_by_path(tiny_llava: TinyLlava, tmp_path: Path, mesh: Mesh) -> None:
    half = {name: tensor.half() for name, tensor in tiny_llava.named("original").items()}
    checkpoint = open_model(tiny_llava.write(tmp_path, tensors=half))
    loaded = flat(checkpoint.load(mesh, lambda path: None if path.startswith("vision") else np.float32))
    assert {leaf.dtype.name for path, leaf in loaded.items() if path.startswith("vision")} == {"float16"}
    assert {leaf.dtype.name for path, leaf in loaded.items() if not path.startswith("vision")} == {"float32"}


def test_tower_from_elsewhere(
    tiny_llava: TinyLlava,
    truth: dict[str, np.ndarray],
    tmp_path: Path,
    mesh: Mesh,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tower = CLIPVisionModel(tiny_llava.config.vision_config)
    tower.load_state_dict(tiny_llava.torch.model.vision_tower.state_dict())
    tower.save_pretrained(tmp_path / "clip")
    names = tiny_llava.named("original")
    own = {name: tensor for name, tensor in names.items() if "vision_tower" not in name}
    own |= {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.zeros(6)}
    folder = tiny_llava.write(tmp_path / "llava", tensors=own, form="bin-shards", vision_config=None)
    projector = {name: tensor for name, tensor in own.items() if "mm_projector" in name}
    torch.save(projector, folder / "mm_projector.bin")  # lies beside the shards on the hub; counts once
    assert_same(params_of(folder, mesh, vision_path=tmp_path / "clip"), truth)
    # A whole CLIP: the tower's names carry a prefix, and there is a text half.
    clip = {f"vision_model.{k.split('vision_model.')[-1]}": t for k, t in names.items() if "vision_tower" in k}
    clip |= {"text_model.final_layer_norm.weight": torch.ones(3), "logit_scale": torch.tensor(1.0)}
    clip |= {"vision_model.embeddings.position_ids": torch.arange(5)[None]}
    shutil.copytree(tmp_path / "clip", tmp_path / "whole")
    write_weights(tmp_path / "whole", clip)
    values = {"model_type": "clip", "vision_config": json.loads((tmp_path / "clip/config.json").read_text())}
    (tmp_path / "whole/config.json").write_text(json.dumps(values))
    assert_same(params_of(folder, mesh, vision_path=tmp_path / "whole"), truth)
    import_model(open_model(folder, tmp_path / "whole"), tmp_path / "ours")
    assert_same(params_of(tmp_path / "ours", mesh), truth)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="vision_path: no/such-tower-here is no directory here"):
        open_model(folder, "no/such-tower-here")


def test_tensors_that_do_not_fit_are_named(tiny_llava: TinyLlava, tmp_path: Path) -> None:
    names = tiny_llava.named("llava-hf")
    del names["language_model.model.layers.1.mlp.up_proj.weight"]
    names["language_model.model.layers.7.mlp.up_proj.weight"] = torch.zeros(2)
    names["multi_modal_projector.linear_1.bias"] = torch.zeros(7)
    with pytest.raises(UserError) as raised:
        open_model(tiny_llava.write(tmp_path, "llava-hf", tensors=names))
    message = str(raised.value)
    assert "1 missing: language_model.model.layers.1.mlp.up_proj.weight" in message
    assert "1 unexpected: language_model.model.layers.7.mlp.up_proj.weight in model.safetensors" in message
    assert "linear_1.bias in model.safetensors is [7], config.json says [48]" in message
    assert "\n" not in message


def test_unknown_names(tiny_llava: TinyLlava, tmp_path: Path) -> None:
    names = {f"module.{name}": tensor for name, tensor in tiny_llava.named("llava-hf").items()}
    with pytest.raises(UserError, match="none of the known layouts"):
        open_model(tiny_llava.write(tmp_path, "llava-hf", tensors=names))


def test_incomplete_downloads(tiny_llava: TinyLlava, tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path / "a", form="safetensors-shards")
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"1 of the 2 files .* missing: model-00002-of-00002"):
        open_model(folder)
    folder = tiny_llava.write(tmp_path / "b")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-100])
    with pytest.raises(UserError, match="cut short"):
        open_model(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        open_model(folder)
    import_model(open_model(tiny_llava.write(tmp_path / "c")), tmp_path / "ours")
    (tmp_path / "ours/params/_METADATA").unlink()
    with pytest.raises(UserError, match="interrupted"):
        open_model(tmp_path / "ours")


@pytest.mark.parametrize(
    ("key", "value", "layout"),
    [
        ("mm_projector_type", "linear", "original"),
        ("mm_vision_select_feature", "cls_patch", "original"),
        ("mm_use_im_start_end", True, "original"),
        ("hidden_act", "gelu", "original"),
        ("attention_bias", True, "original"),
        ("tie_word_embeddings", True, "llava-hf"),
        ("rope_scaling", {"type": "linear", "factor": 2.0}, "original"),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4}, "original"),
        ("vision_feature_select_strategy", "full", "llava-hf"),
        ("vision_feature_layer", [-2, -1], "llava-hf"),
        ("model_type", "bert", "original"),
        ("hidden_size", "48", "original"),
    ],
)
def test_unsupported_settings(key: str, value: object, layout: str, tiny_llava: TinyLlava, tmp_path: Path) -> None:
    folder = tiny_llava.write(tmp_path, layout, **{key: value})
    shown = {"rope_scaling": "linear", "rope_parameters": "yarn"}.get(key, value)
    with pytest.raises(UserError) as raised:
        open_model(folder)
    for part in (str(folder / "config.json"), key, repr(shown)):
        assert part in str(raised.value)
