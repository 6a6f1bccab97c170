"""In which order examples are seen: a pure function of (seed, epoch, step)."""

from functools import lru_cache

import numpy as np


@lru_cache(maxsize=4)  # a step may straddle two epochs; an order of 10 million rows takes 80 MB
def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation int64[count], from a counter-based generator keyed by (seed, epoch): no state to save."""
    key = np.array([seed % 2**64, epoch], np.uint64)
    order = np.random.Generator(np.random.Philox(key=key)).permutation(count)
    order.setflags(write=False)
    return order


def stream_positions(count: int, seed: int, start: int, stop: int, *, shuffle: bool) -> np.ndarray:
    """Entries start…stop-1 of the endless stream of epochs, each a permutation of 0…count-1: int64[n].

    A step takes the next entries of the stream, so the end of an epoch flows on into the next one and no
    example is dropped or repeated within an epoch.
    """
    places = np.arange(start, stop, dtype=np.int64)
    if not shuffle:
        return places % count
    out = np.empty_like(places)
    for epoch in range(start // count, (stop - 1) // count + 1):
        here = places // count == epoch
        out[here] = epoch_order(count, seed, epoch)[places[here] % count]
    return out
