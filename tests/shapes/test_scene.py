"""Scenes, pictures and splits."""

import io

import numpy as np
import pytest
from PIL import Image

from rlaifv_jax.shapes.scene import (
    CELLS,
    COLORS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    encode_png,
    place,
    render,
    sample_scene,
)
from rlaifv_jax.shapes.splits import SPLITS, is_heldout, scene_at


def test_sampled_scenes_have_distinct_cells_in_raster_order():
    for seed in range(200):
        scene = sample_scene(np.random.default_rng(seed))
        cells = [thing.cell for thing in scene]
        assert 2 <= len(scene) <= 5
        assert cells == sorted(set(cells))
        assert sorted(cells + scene.empty_cells()) == list(range(CELLS))
        assert Scene.from_json(scene.to_json()) == scene


def test_scene_puts_things_in_raster_order_and_refuses_a_shared_cell():
    last, first = (
        Thing("small", "red", "star", "bottom", "left"),
        Thing("large", "red", "star", "top", "right"),
    )
    assert Scene((last, first)).things == (first, last)
    with pytest.raises(ValueError, match="one cell"):
        Scene((first, Thing("small", "blue", "circle", "top", "right")))
    with pytest.raises(ValueError, match="pink"):
        Thing("small", "pink", "circle", "top", "right")


def test_picture_is_a_pure_function_of_the_generator_at_every_size():
    scene = sample_scene(np.random.default_rng(1))
    small, again = (render(scene, np.random.default_rng(2)) for _ in range(2))
    large = render(scene, np.random.default_rng(2), pixels=240)
    assert small.size == (48, 48)
    assert large.size == (240, 240)
    assert encode_png(small) == encode_png(again)
    shrunk = np.asarray(large.reduce(5), dtype=int)
    assert np.abs(shrunk - np.asarray(small, dtype=int)).mean() < 3
    decoded = Image.open(io.BytesIO(encode_png(small)))
    assert np.array_equal(np.asarray(decoded), np.asarray(small))


def test_every_kind_of_thing_looks_different_in_its_cell():
    def cell(size: str, color: str, shape: str, seed: int) -> np.ndarray:
        picture = render(Scene((Thing(size, color, shape, *place(4)),)), np.random.default_rng(seed))
        return np.asarray(picture, dtype=int)[16:32, 16:32]

    pictures = {(s, c, h): cell(s, c, h, 0) for s in SIZES for c in COLORS for h in SHAPES}
    kinds = list(pictures)
    for k, kind in enumerate(kinds):
        for other in kinds[:k]:
            differing = np.abs(pictures[kind] - pictures[other]).max(axis=-1) > 60
            assert differing.sum() >= 8, (kind, other)


def test_nothing_reaches_into_a_neighbouring_cell():
    for shape in SHAPES:
        for seed in range(10):
            picture = np.asarray(
                render(Scene((Thing("large", "black", shape, *place(4)),)), np.random.default_rng(seed)),
                dtype=int,
            )
            picture[16:32, 16:32] = picture[0, 0]
            assert (picture == picture[0, 0]).all()


def test_evaluation_scenes_never_appear_in_training():
    seen = {split: {scene_at(0, split, k)[0] for k in range(300)} for split in SPLITS}
    assert all(is_heldout(scene) for scene in seen["heldout"] | seen["validation"])
    for split in ("base", "policy", "labeler", "pairs", "feedback"):
        assert not any(is_heldout(scene) for scene in seen[split])
    assert seen["base"] != seen["policy"]
    assert scene_at(3, "base", 5)[0] == scene_at(3, "base", 5)[0] != scene_at(4, "base", 5)[0]
