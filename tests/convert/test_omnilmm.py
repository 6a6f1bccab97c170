"""OmniLMM's files: a round trip bit for bit, what is refused, and the published sizes."""

from pathlib import Path

import jax
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from convert.export import export_model
from convert.inspect import describe
from convert.load import import_model, open_model
from convert.tables import TABLES
from rlaifv_jax import flops, published
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.blueprint import blueprint, flat
from rlaifv_jax.parallel import make_mesh
from tests.convert.omnilmms import TinyOmniLmm, write_tokenizer


@pytest.fixture(scope="module")
def tiny() -> TinyOmniLmm:
    return TinyOmniLmm()


@pytest.mark.parametrize("form", ["safetensors", "safetensors-shards", "bin-shards"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_round_trip(tiny: TinyOmniLmm, tokenizer_dir: Path, tmp_path: Path, form: str, dtype: torch.dtype) -> None:
    tiny.tensors = {name: tensor.to(dtype) for name, tensor in tiny.tensors.items()}
    source = tiny.write(tmp_path / "a", form, tokenizer=write_tokenizer(tmp_path / "tokenizer", tokenizer_dir))
    import_model(open_model(source), tmp_path / "b")
    export_model(open_model(tmp_path / "b"), tmp_path / "c", "original")
    back = load_file(tmp_path / "c" / "model.safetensors")
    assert back.keys() == tiny.tensors.keys()
    for name, tensor in tiny.tensors.items():
        assert back[name].dtype == dtype
        assert torch.equal(back[name], tensor), name
    for file in ("config.json", "tokenizer.model", "tokenizer_config.json"):
        assert (tmp_path / "c" / file).read_bytes() == (source / file).read_bytes()
    said = describe(tmp_path / "b")
    assert "family:         omnilmm" in said
    assert "resampler:" in said


def test_orbax_opens_what_is_imported(tiny: TinyOmniLmm, tmp_path: Path) -> None:
    import orbax.checkpoint as ocp

    import_model(open_model(tiny.write(tmp_path / "a")), tmp_path / "b")
    theirs = flat(ocp.PyTreeCheckpointer().restore(tmp_path / "b" / "params"))
    ours = flat(open_model(tmp_path / "b").load(make_mesh(1, 1, 1, jax.devices()[:1])))
    assert theirs.keys() == ours.keys()
    for path, leaf in ours.items():
        np.testing.assert_array_equal(np.asarray(theirs[path]), np.asarray(leaf), err_msg=path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_query": 5}, "num_query is 5; the resampler's queries must be a square grid"),
        ({"num_query": 9}, "model.resampler.query in model.safetensors is"),
        ({"mm_use_im_start_end": False}, "mm_use_im_start_end is False"),
        (
            {"vision_config": None, "mm_vision_tower": "vit_of_mine"},
            "the sizes of mm_vision_tower='vit_of_mine' are not known",
        ),
        ({"image_size": 50}, "patch_size=14 must divide image_size=50"),
        ({"sliding_window": 0}, "sliding_window is 0"),
    ],
)
def test_configs_that_do_not_fit(tiny: TinyOmniLmm, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_model(tiny.write(tmp_path, **changes))


def test_tensors_that_do_not_fit(tiny: TinyOmniLmm, tmp_path: Path) -> None:
    kept = dict(tiny.tensors)
    del kept["model.vision_tower.blocks.1.attn.qkv.weight"]
    kept["model.vision_tower.blocks.2.norm1.weight"] = torch.zeros(64)  # the layer that computes nothing
    tiny.tensors, all_of_them = kept, tiny.tensors
    folder = tiny.write(tmp_path)
    tiny.tensors = all_of_them
    with pytest.raises(UserError, match=r"1 missing: .*blocks\.1\.attn\.qkv\.weight; 1 unexpected: .*blocks\.2\.norm1"):
        open_model(folder)


def test_there_is_one_layout(tiny: TinyOmniLmm, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the layout 'llava-hf' does not exist for omnilmm; there is original"):
        export_model(open_model(tiny.write(tmp_path / "a")), tmp_path / "b", "llava-hf")
    assert not (tmp_path / "b").exists()


def test_published_sizes() -> None:
    """Names and counts are those of the index of RLAIF-V-12B on the hub."""
    known = published.sizes_of("openbmb/RLAIF-V-12B")
    assert known is not None
    family, config = known
    plan = blueprint(family.module, config)
    sizes = {path: int(np.prod(leaf.shape)) for path, leaf in flat(plan.shapes).items()}
    assert sum(sizes.values()) == 11_615_965_952
    assert sum(size for path, size in sizes.items() if path.startswith("vision/")) == 4_280_795_904
    names = {(entry.part, entry.name) for entry in TABLES["omnilmm"](config)}
    assert len(names) == 1130
    assert (*config.tile, config.decoder.window) == ((448, 448, 3), 256, 4096)
    assert flops.image_flops(config) == pytest.approx(9.245e12 + 0.114e12, rel=1e-3)


def test_window_of_mistral() -> None:
    """4096 where config.json says nothing, none where it says null."""
    raw = published.MODELS["openbmb/OmniLMM-12B"]
    from rlaifv_jax.models.hf_config import Section, decoder_config

    assert decoder_config(Section({k: v for k, v in raw.items() if k != "sliding_window"}, "")).window == 4096
    assert decoder_config(Section(raw | {"sliding_window": None}, "")).window is None
