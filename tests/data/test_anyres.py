import numpy as np
import pytest
from PIL import Image

from rlaifv_jax.data.anyres import AnyRes
from rlaifv_jax.data.tiles import NEWLINE

NEXT = AnyRes(336, 14, ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)))


@pytest.mark.parametrize(
    ("size", "tokens"),
    [
        ((336, 336), 1176),
        ((640, 480), 2340),
        ((480, 640), 2352),
        ((672, 672), 2928),
        ((1000, 400), 2040),
        ((300, 900), 2376),
    ],
)
def test_worked_counts(size, tokens):
    assert NEXT.placement(size).positions == tokens


def test_counts_and_tiles_of_2000_random_sizes_are_those_of_transformers():
    import torch
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
    from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape, unpad_image

    assert LlavaNextImageProcessorPil
    pinpoints = [[height, width] for width, height in NEXT.canvases]
    rng = np.random.default_rng(0)
    for _ in range(2000):
        width, height = (int(edge) for edge in rng.integers(8, 2400, 2))
        rows, columns = get_anyres_image_grid_shape((height, width), pinpoints, 336)
        features = torch.zeros(1, rows * 24, columns * 24)
        _, high, wide = unpad_image(features, (height, width)).shape
        ours = NEXT.placement((width, height))
        assert ours.tiles == 1 + rows * columns
        assert ours.positions == 576 + high * wide + high, (width, height)


def test_a_tile_for_the_whole_then_the_canvas_row_by_row():
    small = AnyRes(28, 14, ((28, 56), (56, 28), (56, 56), (84, 28)))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 100, 3), dtype=np.uint8))
    placement = small.placement(image.size)
    tiles, grids = small.cut(image)
    assert tiles.shape == (placement.tiles, *small.tile.shape) == (4, 28, 28, 3)
    assert not grids.any()
    assert grids.shape == (4, 2)
    np.testing.assert_array_equal(tiles[0], np.asarray(image.resize((28, 28), Image.Resampling.BICUBIC)))
    assert (small.uniform, small.tile.tokens, placement.positions) == (None, 4, 18)
    (places,) = placement.places
    assert places.tolist() == [0, 1, 2, 3, 4, 5, 8, 9, 12, 13, NEWLINE, 6, 7, 10, 11, 14, 15, NEWLINE]
