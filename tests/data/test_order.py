"""Every epoch is a permutation, and the stream depends on nothing but the seed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rlaifv_jax.data.order import epoch_order, stream_positions


@given(st.integers(1, 50), st.integers(-(2**40), 2**40), st.integers(0, 200), st.integers(1, 120))
def test_any_window_of_the_stream_is_the_same_as_in_the_whole(count, seed, start, length):
    whole = np.concatenate([epoch_order(count, seed, epoch) for epoch in range((start + length) // count + 1)])
    window = stream_positions(count, seed, start, start + length)
    np.testing.assert_array_equal(window, whole[start : start + length])
    for epoch in range((start + length) // count):
        assert sorted(whole[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_seed_and_epoch_both_matter():
    orders = [tuple(epoch_order(100, seed, epoch)) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(orders)) == 4


def test_the_order_never_changes_between_versions():
    """Resuming an old run needs the same order for ever: these numbers are from the first version."""
    assert epoch_order(10, 7, 3).tolist() == [8, 4, 5, 3, 6, 0, 9, 7, 1, 2]
