import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.slicing import Slicing

MINICPM = Slicing(448, 14, 9, 96)
TINY = Slicing(56, 14, 4, 2)


def noise(width, height):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("size", "whole", "grid", "each", "count"),
    [
        ((448, 448), (448, 448), (0, 0), (0, 0), 1),
        ((640, 480), (518, 392), (2, 1), (364, 546), 3),
        ((1024, 768), (518, 392), (2, 2), (518, 392), 5),
        ((1344, 1344), (448, 448), (3, 3), (448, 448), 10),
        ((2000, 1000), (630, 322), (4, 2), (448, 448), 9),
        ((4000, 3000), (518, 392), (3, 3), (518, 392), 10),
        ((449, 448), (448, 448), (2, 1), (322, 630), 3),
        ((100, 1000), (140, 1414), (0, 0), (0, 0), 1),
    ],
)
def test_worked_values(size, whole, grid, each, count):
    plan = MINICPM.plan(size)
    assert (plan.whole, plan.grid, plan.each, plan.total) == (whole, grid, each, count)


def test_slices_put_together_are_the_picture():
    image = noise(1024, 768)
    whole, *slices = MINICPM.slices(image)
    assert whole.shape == (392, 518, 3)
    assert len(slices) == 4
    rows = [np.concatenate(slices[start : start + 2], axis=1) for start in (0, 2)]
    large = image.resize((1036, 784), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(np.concatenate(rows), np.asarray(large))


def nearest(length, unit):
    """The multiple of `unit` nearest to `length`, at least one; of two as near the even one."""
    below = math.floor(length / unit)
    over = Fraction(length / unit) - below
    up = over > Fraction(1, 2) or (over == Fraction(1, 2) and below % 2 == 1)
    return unit * max(below + up, 1)


def restated(width, height):
    """(whole, grid, each) for 448, 14 and 9."""

    def resized(w, h, always):
        if always or w * h > 200704:
            h, ratio = int(448 / (w / h) ** 0.5), w / h
            w = int(h * ratio)
        return nearest(w, 14), nearest(h, 14)

    pieces = -(-width * height // 200704)
    if pieces < 2:
        return resized(width, height, True), (0, 0), (0, 0)
    pieces, best, off = min(pieces, 9), (0, 0), math.inf
    for count in range(max(pieces - 1, 2), min(pieces + 1, 9) + 1):
        for columns in range(1, count + 1):
            rows, rest = divmod(count, columns)
            error = abs(math.log(width / height) - math.log(columns / rows)) if rest == 0 else math.inf
            if error < off:
                best, off = (columns, rows), error
    columns, rows = best
    each = resized(nearest(width, columns) / columns, nearest(height, rows) / rows, True)
    return resized(width, height, False), best, each


def test_2000_random_sizes():
    """The formula restated. Half of the edges are such that some of their quotients end in a half."""
    rng = np.random.default_rng(0)
    sliced = 0
    for number in range(2000):
        edges = rng.integers(8, 5000, 2) if number % 2 else 7 * rng.integers(2, 700, 2)
        size = int(edges[0]), int(edges[1])
        plan = MINICPM.plan(size)
        assert (plan.whole, plan.grid, plan.each) == restated(*size), size
        assert plan.total <= 10
        sliced += plan.total > 1
    assert 1000 < sliced < 2000


@pytest.mark.parametrize(
    ("size", "whole"), [((20, 480), (84, 2198)), ((25, 448), (112, 1890)), ((32, 448), (112, 1680))]
)
def test_halves_are_rounded_to_even(size, whole):
    """91, 105 and 119 pixels are 6.5, 7.5 and 8.5 patches."""
    assert restated(*size)[0] == whole
    assert MINICPM.plan(size).whole == whole


@pytest.mark.parametrize("size", [(56, 56), (80, 60), (30, 60), (150, 100), (400, 61)])
def test_tiles_are_the_patches_of_the_slices(size):
    image = noise(*size)
    pixels, grids = TINY.cut(image)
    placement = TINY.placement(size)
    slices = TINY.slices(image)
    assert pixels.shape == (len(slices), 24, 196, 3)
    assert (placement.tiles, placement.slices) == (len(slices), TINY.plan(size).grid)
    assert np.concatenate(placement.places).tolist() == list(range(2 * len(slices)))
    assert {len(places) for places in placement.places} == {2}
    for tile, (rows, columns), picture in zip(pixels, grids, slices, strict=True):
        assert picture.shape == (14 * rows, 14 * columns, 3)
        for row in range(rows):
            for column in range(columns):
                patch = picture[14 * row : 14 * row + 14, 14 * column : 14 * column + 14]
                np.testing.assert_array_equal(tile[row * columns + column].reshape(14, 14, 3), patch)
        assert not tile[rows * columns :].any()


def test_as_the_published_model_is_told():
    assert MINICPM.tile == ((1152, 196, 3), 96)
    assert MINICPM.placement((640, 480)).positions == 3 * 96
    assert pickle.loads(pickle.dumps(MINICPM)) == MINICPM


def test_room_for_thin_pictures():
    for length in range(1, 60):
        for size in ((100 * length, 100), (40, 40 * length), (3000, 3000 // length)):
            assert MINICPM.placement(size).tiles <= 10
    for size in ((9000, 1), (1, 5000)):
        for use in (MINICPM.placement, lambda size: MINICPM.cut(Image.new("RGB", size))):
            with pytest.raises(BadRow, match=r"image_too_thin: .* more than the 1152 patches that there is room for"):
                use(size)
