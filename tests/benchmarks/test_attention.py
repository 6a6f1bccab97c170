"""Both layouts of the attention benchmark give the same gradients."""

import numpy as np
import pytest

from benchmarks import timing
from benchmarks.attention import calls, lay_out

ROWS = lay_out(9, np.array([[4, 7], [3, 2]]))


def gather(own):
    """[2N, T', …] → [N, T, …]: the gradient of a prefix is the sum over its two rows."""
    shared = np.zeros((*ROWS.shape, *own.shape[2:]), own.dtype)
    done = set()
    for row, number, here, there in ROWS.stretches:
        assert (number, there.start) not in done
        done.add((number, there.start))
        shared[row, here] += own[number, there]
    return shared


def test_layout():
    assert ROWS.shape == (2, 20)
    assert ROWS.own_shape == (4, 16)
    np.testing.assert_array_equal(ROWS.layout.branches[1], [0] * 9 + [1] * 3 + [2] * 2 + [0] * 6)
    np.testing.assert_array_equal(ROWS.layout.segments[1], [1] * 14 + [0] * 6)
    np.testing.assert_array_equal(ROWS.layout.positions[1][9:14], [9, 10, 11, 9, 10])


@pytest.mark.parametrize("peer", ["torch_sdpa"])
def test_gradients_agree(peer):
    found = calls(ROWS, 2, 8, ["dense"], "float32")
    assert set(found) == {timing.OURS, "torch_sdpa"}
    for mine, theirs in zip(found[timing.OURS](), found[peer](), strict=True):
        theirs = gather(np.asarray(theirs))
        assert np.abs(theirs).max() > 0.1
        np.testing.assert_allclose(mine, theirs, atol=2e-5, rtol=0)
