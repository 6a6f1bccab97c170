"""Every contender of the training-step benchmark does the same job."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.model import TINY
from benchmarks.pairs import Lengths, make_pairs
from benchmarks.train_step import TRL, TWO_ROWS, build, installed

NOWHERE = Path("no photographs here")
needs_trl = pytest.mark.skipif(find_spec("trl") is None, reason="TRL is not installed")


def contender(name, per_row=1):
    pairs = make_pairs(4, TINY, Lengths(prompt=12, answer=14.0, spread=5.0), NOWHERE)
    return build(name, pairs, TINY, per_row=per_row)


def seen(one):
    """Loss and gradient norm at the start, and the losses of three updates."""
    loss, norm = one.probe()
    return np.array([loss, *(one.step() for _ in range(3))]), norm


def test_installed_contenders():
    trl = find_spec("trl") is not None
    assert installed() == ("ours", "original", "completion_only", "two_rows_best", *(TRL if trl else ()))


@pytest.fixture(scope="module")
def ours():
    return seen(contender("ours"))


def assert_same(found, expected):
    np.testing.assert_allclose(found[0], expected[0], atol=1e-4, rtol=0)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-3)


def test_the_comparison_can_fail(ours):
    losses, norm = ours
    assert abs(losses[0] - np.log(2)) > 3e-3  # the reference is another model, and counts
    assert losses[1] == pytest.approx(losses[0], abs=1e-6)
    assert losses[0] - losses[3] > 3e-3  # updates are seen in the loss
    assert norm > 0.1


@pytest.mark.parametrize("name", TWO_ROWS)
def test_pytorch_agrees(ours, name):
    with torch.compiler.set_stance("force_eager"):  # compiling takes a minute and changes nothing but speed
        assert_same(seen(contender(name)), ours)


def test_two_pairs_in_a_row_agree(ours):
    assert_same(seen(contender("ours", per_row=2)), ours)


@needs_trl
@pytest.mark.parametrize("name", TRL)
def test_trl_agrees(ours, name):
    assert_same(seen(contender(name)), ours)
