"""The pixels that the loader benchmark compares are the same, and its batches hold what they should."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks import timing
from benchmarks.loader import image_calls, step_builder, trl_collator
from benchmarks.model import TINY
from benchmarks.pairs import Lengths, make_pairs, pictures

NOWHERE = Path("no photographs here")


def test_pixels_are_equal():
    found = image_calls(pictures(NOWHERE, 2), TINY)
    mine, theirs = found[timing.OURS](), found["hf_pil_uint8"]()
    assert len(mine) == 2
    assert mine[0].dtype == np.uint8
    assert mine[0].std() > 10
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def pairs():
    return make_pairs(3, TINY, Lengths(prompt=5, answer=9.0, spread=1.0), NOWHERE)


def test_a_batch_of_pairs(pairs, tmp_path):
    batch = step_builder(pairs, TINY, tmp_path)()
    assert batch.pairs.sum() == 3
    assert batch.images.shape == (1, 3, 1, 56, 56, 3)
    assert batch.weights.sum() > 3 * 2 * 9


@pytest.mark.skipif(find_spec("trl") is None, reason="TRL is not installed")
def test_trl_collates_the_same_pairs(pairs):
    batch = trl_collator(pairs, TINY)()
    assert batch["completion_mask"].sum() == sum(len(answer) for pair in pairs for answer in pair.answers)
    rows = [np.concatenate([pair.prompt, pair.answers[n]]) for n in (0, 1) for pair in pairs]
    for row, ids, mask in zip(rows, batch["input_ids"], batch["attention_mask"], strict=True):
        text = ids[mask.bool()].numpy()
        np.testing.assert_array_equal(text[text != TINY.image_token], row[row >= 0])
        assert (text == TINY.image_token).sum() == TINY.image_tokens
