"""Muffin's files: a round trip bit for bit, what is left out and what is refused, and the published sizes."""

from pathlib import Path

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
from rlaifv_jax.models.blueprint import blueprint, flat, is_frozen
from rlaifv_jax.models.families import MUFFIN, Trained
from tests.convert.muffins import TinyMuffin, write_muffin_tokenizer


@pytest.fixture(scope="module")
def tiny() -> TinyMuffin:
    return TinyMuffin()


@pytest.mark.parametrize("form", ["safetensors-shards", "bin", "bin-shards"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_round_trip(tiny: TinyMuffin, tokenizer_dir: Path, tmp_path: Path, form: str, dtype: torch.dtype) -> None:
    """With the tables of BEiT-3's pretraining and with buffers of old transformers, which do not come back."""
    wanted = tiny.tensors = {name: tensor.to(dtype) for name, tensor in tiny.tensors.items()}
    derived = {f"model.layers.{n}.self_attn.rotary_emb.inv_freq": torch.ones(6) for n in range(2)}
    tokenizer = write_muffin_tokenizer(tmp_path / "tokenizer", tokenizer_dir)
    source = tiny.write(tmp_path / "a", form, tokenizer=tokenizer, more=tiny.deleted | derived)
    assert len(tiny.deleted) == 2
    import_model(open_model(source), tmp_path / "b")
    export_model(open_model(tmp_path / "b"), tmp_path / "c", "original")
    back = load_file(tmp_path / "c" / "model.safetensors")
    assert back.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert back[name].dtype == dtype
        assert torch.equal(back[name], tensor), name
    for file in ("config.json", "tokenizer.model", "tokenizer_config.json"):
        assert (tmp_path / "c" / file).read_bytes() == (source / file).read_bytes()
    said = describe(tmp_path / "b")
    assert "family:         muffin" in said
    assert "complete:       yes" in said


def test_image_statistics(tiny: TinyMuffin, tmp_path: Path) -> None:
    """Halves, unless a processor file says otherwise."""
    folder = tiny.write(tmp_path)
    assert open_model(folder).config.image_mean == open_model(folder).config.image_std == (0.5, 0.5, 0.5)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}')
    assert open_model(folder).config.image_mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_query": 6}, r"model\.query in model\.safetensors is \[5, 32\], config\.json says \[6, 32\]"),
        ({"num_query": 39}, "max_source_positions=40 must have room for 39 queries"),
        ({"mm_use_im_start_end": False}, "mm_use_im_start_end is False"),
        (
            {"vision_config": None, "mm_vision_tower": "beit_of_mine"},
            "the sizes of mm_vision_tower='beit_of_mine' are not known",
        ),
        ({"vision_config": {"model_type": "eva02"}}, "vision_config.model_type is 'eva02'"),
    ],
)
def test_configs_that_do_not_fit(tiny: TinyMuffin, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_model(tiny.write(tmp_path, **changes))


def test_a_tower_for_pictures_of_another_size(tiny: TinyMuffin, tmp_path: Path) -> None:
    tower = tiny.json()["vision_config"] | {"image_size": 64}
    name = r"model\.vision_tower\.beit3\.encoder\.embed_positions\.A\.weight"
    with pytest.raises(UserError, match=rf"{name} in .* is \[12, 32\], config\.json says \[19, 32\]"):
        open_model(tiny.write(tmp_path, vision_config=tower))


def test_tensors_that_do_not_fit(tiny: TinyMuffin, tmp_path: Path) -> None:
    lost, left = (f"model.vision_tower.beit3.encoder.layers.1.ffn.{name}.fc1.weight" for name in "BC")
    tensors = tiny.tensors
    tiny.tensors = {left if name == lost else name: tensor for name, tensor in tensors.items()}
    folder = tiny.write(tmp_path)
    tiny.tensors = tensors
    with pytest.raises(UserError, match=r"1 missing: .*ffn\.B\.fc1\.weight; 1 unexpected: .*ffn\.C\.fc1\.weight"):
        open_model(folder)


def test_there_is_one_layout(tiny: TinyMuffin, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the layout 'llava-hf' does not exist for muffin; there is original"):
        export_model(open_model(tiny.write(tmp_path / "a")), tmp_path / "b", "llava-hf")


def test_published_sizes() -> None:
    known = published.sizes_of("openbmb/RLHF-V")
    assert known is not None
    family, config = known
    plan = blueprint(family.module, config)
    sizes = {path: int(np.prod(leaf.shape)) for path, leaf in flat(plan.shapes).items()}
    assert sum(sizes.values()) == 13_628_976_128
    assert sum(size for path, size in sizes.items() if path.startswith("vision/")) == 607_757_312 + 64 * 1024
    assert len({(entry.part, entry.name) for entry in TABLES["muffin"](config)}) == 1335
    assert (*config.tile, config.image_mean) == ((448, 448, 3), 64, (0.5, 0.5, 0.5))
    still = family.untrained(Trained(vision=True))
    patch_embedding = (3 * 16**2 + 1) * 1024 + 1024
    assert sum(size for path, size in sizes.items() if is_frozen(path, still)) == 303_363_072 + patch_embedding
    assert flops.image_flops(config) == pytest.approx(0.585e12, rel=2e-3)
    muffin = published.sizes_of("Yirany/Muffin-13B")
    assert muffin is not None
    assert muffin[1].tile.shape == (672, 672, 3)


def test_what_never_learns_is_what_the_original_gives_a_rate_of_zero() -> None:
    """Names with 'beit3', and with '.A' or 'beit3.vision_embed'."""
    known = published.sizes_of("openbmb/RLHF-V")
    assert known is not None
    from convert.layouts import MUFFIN as NAMES

    for trained in (Trained(vision=True), Trained(vision=False), Trained(vision=True, projector=False)):
        still = MUFFIN.untrained(trained)
        for entry in TABLES["muffin"](known[1]):
            name = NAMES.full(entry.part, entry.name)
            zero = "beit3" in name and (".A" in name or "beit3.vision_embed" in name)
            zero |= not trained.vision and ("beit3" in name or name == "model.query")
            zero |= not trained.projector and "mm_projector" in name
            assert is_frozen(entry.path, still) == zero, name
