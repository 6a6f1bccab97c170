import numpy as np
import pytest
from PIL import Image

from rlaifv_jax.data.slicing import Slicing

MINICPM = Slicing(448, 14, 9)


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
    assert (plan.whole, plan.grid, plan.each, plan.count) == (whole, grid, each, count)


def test_slices_put_together_are_the_picture():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (768, 1024, 3), dtype=np.uint8))
    whole, *slices = MINICPM.cut(image)
    assert whole.shape == (392, 518, 3)
    assert len(slices) == 4
    rows = [np.concatenate(slices[start : start + 2], axis=1) for start in (0, 2)]
    large = image.resize((1036, 784), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(np.concatenate(rows), np.asarray(large))


def test_2000_random_sizes():
    """Multiples of a patch, near the number of pixels that the model was made for, nine slices at the most."""
    rng = np.random.default_rng(0)
    for _ in range(2000):
        size = tuple(int(edge) for edge in rng.integers(8, 5000, 2))
        plan = MINICPM.plan(size)
        assert plan.count <= 10
        for edges in (plan.whole, plan.each):
            assert all(edge % 14 == 0 for edge in edges)
        if plan.grid[0]:
            assert 0.7 < plan.each[0] * plan.each[1] / 448**2 < 1.5
