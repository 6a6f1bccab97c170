"""In which order examples are seen: a pure function of (seed, epoch)."""

from functools import lru_cache

import numpy as np

PURPOSES = {"epoch": 0, "held out": 1, "deal": 2, "view": 3}  # each with random numbers of its own


def generator(seed: int, number: int, *, purpose: str, moment: int = 0) -> np.random.Generator:
    """A counter-based generator keyed by what it is for: no state to save. moment: a second number, below 2^63."""
    key = np.array([seed % 2**64, PURPOSES[purpose] << 32 | number], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array([0, 0, 0, moment], np.uint64)))


@lru_cache(maxsize=4)  # a window may straddle epochs; an order of 10 million rows takes 80 MB
def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """A permutation int64[count] for each epoch."""
    order = generator(seed, epoch, purpose="epoch").permutation(count)
    order.setflags(write=False)
    return order


def stream_positions(count: int, seed: int, start: int, stop: int) -> np.ndarray:
    """Entries start…stop-1 of the endless stream of epochs, each a permutation of 0…count-1: int64[n]."""
    places = np.arange(start, stop, dtype=np.int64)
    out = np.empty_like(places)
    for epoch in range(start // count, (stop - 1) // count + 1):
        here = places // count == epoch
        out[here] = epoch_order(count, seed, epoch)[places[here] % count]
    return out
