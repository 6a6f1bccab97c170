"""MiniCPM-V's files: a round trip bit for bit, what is refused, and the published sizes."""

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from convert.export import export_model
from convert.inspect import describe
from convert.layouts import MINICPM
from convert.load import import_model, open_model
from convert.tables import TABLES
from rlaifv_jax import flops, published
from rlaifv_jax.data.tokenizer import load_tokenizer
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.blueprint import blueprint, flat
from tests.convert.minicpms import TinyMiniCpm


@pytest.fixture(scope="module")
def tiny() -> TinyMiniCpm:
    return TinyMiniCpm()


@pytest.mark.parametrize("form", ["safetensors", "safetensors-shards", "bin-shards"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_round_trip(tiny: TinyMiniCpm, tmp_path: Path, form: str, dtype: torch.dtype) -> None:
    tiny.tensors = {name: tensor.to(dtype) for name, tensor in tiny.tensors.items()}
    source = tiny.write(tmp_path / "a", form)
    import_model(open_model(source), tmp_path / "b")
    export_model(open_model(tmp_path / "b"), tmp_path / "c", "original")
    back = load_file(tmp_path / "c" / "model.safetensors")
    assert back.keys() == tiny.tensors.keys()
    for name, tensor in tiny.tensors.items():
        assert back[name].dtype == dtype
        assert torch.equal(back[name], tensor), name
    for file in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "c" / file).read_bytes() == (source / file).read_bytes()
    said = describe(tmp_path / "b")
    assert "family:         minicpm" in said
    assert "resampler:" in said
    assert "template:       the tokenizer's own" in said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vision_config": {"model_type": "siglip_vision_model"}, "version": 2.6}, "not supported .version 2.6"),
        ({"vision_config": None, "drop_vision_last_layer": True}, "of them only MiniCPM-Llama3-V 2.5 is"),
        ({"vision_config": []}, "vision_config is ..; an object is needed"),
        ({"version": 2.6}, "not supported .version 2.6"),
        ({"drop_vision_last_layer": True}, "drop_vision_last_layer is True"),
        ({"slice_mode": False}, "slice_mode is False"),
        ({"slice_config": {"scale_resolution": 50}}, "scale_resolution=50 must be a multiple of patch_size=14"),
        (
            {"slice_config": {"scale_resolution": 4480}},
            "scale_resolution=4480 must be at most the tower's image_size=70",
        ),
        ({"slice_config": {"patch_size": 16}}, "slice_config.patch_size is 16"),
        ({"query_num": 9}, "resampler.query in model.safetensors is"),
        ({"hidden_size": 200, "num_attention_heads": 2}, "hidden_size is 200; it must be a multiple of 128"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is True"),
    ],
)
def test_configs_that_do_not_fit(tiny: TinyMiniCpm, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_model(tiny.write(tmp_path, **changes))


def test_tensors_that_do_not_fit(tiny: TinyMiniCpm, tmp_path: Path) -> None:
    kept = dict(tiny.tensors)
    del kept["resampler.attn.in_proj_bias"]
    kept["resampler.pos_embed"] = torch.zeros(3, 256)
    tiny.tensors, all_of_them = kept, tiny.tensors
    folder = tiny.write(tmp_path)
    tiny.tensors = all_of_them
    with pytest.raises(
        UserError, match=r"1 missing: resampler\.attn\.in_proj_bias; 1 unexpected: resampler\.pos_embed"
    ):
        open_model(folder)


def test_code_beside_the_weights_is_never_run(
    tiny: TinyMiniCpm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The published directory names classes in files of its own; nobody is asked about them, and nobody warned."""
    asked: list[str] = []
    monkeypatch.setattr(builtins, "input", asked.append)
    folder = tiny.write(tmp_path, auto_map={"AutoConfig": "configuration_minicpm.MiniCPMVConfig"})
    file = folder / "tokenizer_config.json"
    own = {"AutoTokenizer": ["tokenization_minicpmv_fast.MiniCPMVTokenizerFast", None]}
    changes = {"auto_map": own, "tokenizer_class": "MiniCPMVTokenizerFast"}
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    assert len(load_tokenizer(folder).encode_bare("<slice>")) == 1
    assert not asked
    assert capfd.readouterr() == ("", "")


def published_tensors() -> dict[str, tuple[int, ...]]:
    """Those of openbmb/MiniCPM-Llama3-V-2_5."""
    vision, mlp, text, hidden, keys, rows = 1152, 4304, 4096, 14336, 1024, 128256
    found: dict[str, tuple[int, ...]] = {
        "llm.model.embed_tokens.weight": (rows, text),
        "llm.lm_head.weight": (rows, text),
        "llm.model.norm.weight": (text,),
        "vpm.embeddings.patch_embedding.weight": (vision, 3, 14, 14),
        "vpm.embeddings.patch_embedding.bias": (vision,),
        "vpm.embeddings.position_embedding.weight": (4900, vision),
        "vpm.post_layernorm.weight": (vision,),
        "vpm.post_layernorm.bias": (vision,),
        "resampler.query": (96, text),
        "resampler.proj": (text, text),
        "resampler.kv_proj.weight": (text, vision),
        "resampler.attn.in_proj_weight": (3 * text, text),
        "resampler.attn.in_proj_bias": (3 * text,),
        "resampler.attn.out_proj.weight": (text, text),
        "resampler.attn.out_proj.bias": (text,),
    }
    for norm in ("ln_q", "ln_kv", "ln_post"):
        found |= {f"resampler.{norm}.{part}": (text,) for part in ("weight", "bias")}
    for i in range(32):
        layer = f"llm.model.layers.{i}."
        found |= {f"{layer}{norm}.weight": (text,) for norm in ("input_layernorm", "post_attention_layernorm")}
        found |= {f"{layer}self_attn.{name}_proj.weight": (text, text) for name in "qo"}
        found |= {f"{layer}self_attn.{name}_proj.weight": (keys, text) for name in "kv"}
        found |= {f"{layer}mlp.{name}_proj.weight": (hidden, text) for name in ("gate", "up")}
        found[f"{layer}mlp.down_proj.weight"] = (text, hidden)
    for i in range(27):
        layer = f"vpm.encoder.layers.{i}."
        maps = {f"self_attn.{name}_proj": (vision, vision) for name in ("q", "k", "v", "out")}
        for name, shape in (maps | {"mlp.fc1": (mlp, vision), "mlp.fc2": (vision, mlp)}).items():
            found |= {f"{layer}{name}.weight": shape, f"{layer}{name}.bias": shape[:1]}
        found |= {f"{layer}layer_norm{n}.{part}": (vision,) for n in (1, 2) for part in ("weight", "bias")}
    return found


def test_published_sizes() -> None:
    """Names and shapes are those of the checkpoint on the hub, 17.07 GB in float16."""
    known = published.sizes_of("openbmb/MiniCPM-Llama3-V-2_5")
    assert known is not None
    family, config = known
    shapes = flat(blueprint(family.module, config).shapes)
    ours = {
        MINICPM.full(entry.part, entry.name): entry.theirs(shapes[entry.path].shape[0 if entry.layer is None else 1 :])
        for entry in TABLES["minicpm"](config)
    }
    assert ours == published_tensors()
    assert len(ours) == 741
    sizes = {path: int(np.prod(leaf.shape)) for path, leaf in shapes.items()}
    assert sum(sizes.values()) == 8_537_092_336
    for part, size in (("vision", 417_792_240), ("resampler", 89_038_848), ("decoder", 8_030_261_248)):
        assert sum(size for path, size in sizes.items() if path.startswith(part)) == size
    assert config.tile == ((1152, 196, 3), 96)
    assert flops.tower_flops(config.vision) == pytest.approx(0.974e12, rel=1e-3)
    assert config.connector_flops == pytest.approx(0.090e12, rel=1e-2)
