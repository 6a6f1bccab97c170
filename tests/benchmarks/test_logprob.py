"""All ways to the log-probs of answers agree in value and gradients."""

import numpy as np
import pytest

from benchmarks.logprob import TwoRows, ours, problem

LENGTHS = np.array([[4, 7], [6, 2]])
PREFIX = 5


@pytest.fixture(scope="module")
def setting():
    p = problem(PREFIX, LENGTHS, width=16, vocab=40)
    call, temporary = ours(p, 16, "float32")
    assert temporary > 0
    total, (hidden, head) = call()
    return p, float(total), np.asarray(hidden), np.asarray(head)


@pytest.mark.parametrize("way", ["full_logits", "gathered"])
def test_two_rows_agree(setting, way):
    p, total, hidden, head = setting
    theirs = getattr(TwoRows(p, "float32", "cpu"), way)()
    np.testing.assert_allclose(theirs[0], total, rtol=1e-5)
    np.testing.assert_allclose(theirs[2].T, head, atol=1e-5, rtol=0)
    for row, (chosen, rejected) in enumerate(LENGTHS):
        prefix = theirs[1][2 * row, :PREFIX] + theirs[1][2 * row + 1, :PREFIX]
        np.testing.assert_allclose(hidden[row, :PREFIX], prefix, atol=1e-5, rtol=0)
        for own, start, count in ((2 * row, PREFIX, chosen), (2 * row + 1, PREFIX + chosen, rejected)):
            answer = theirs[1][own, PREFIX : PREFIX + count]
            np.testing.assert_allclose(hidden[row, start : start + count], answer, atol=1e-5, rtol=0)
    assert np.abs(hidden[:, PREFIX - 1]).max() > 0.1  # the end of the prefix predicts
