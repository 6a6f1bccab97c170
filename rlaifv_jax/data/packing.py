"""Which examples share a row, and which rows make a step.

A step of training takes exactly `batch_pairs` examples in a fixed number of rows. Padding is computed like anything
else, so the rows should be full: examples are shuffled, dealt to steps in windows, and packed within their step.

    stream    every epoch a permutation, one after the other                       a function of (seed, epoch)
    deal      a window of the stream is sorted by length and cut into strata; every step gets one example of
              each, so that every step holds the same mixture of long and short    of (lengths, pairs, seed, step)
    pack      best fit: the longest first, each into the fullest row that has room a function of (lengths, row)

Who is in a step depends neither on the row length nor on the devices, so a run can be resumed on another mesh.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from rlaifv_jax.data.order import generator, stream_positions
from rlaifv_jax.data.rows import RowShape

WINDOW = 2048  # examples that are dealt together: fewer are less even, more are less random


class Sizes(NamedTuple):
    """What each of N examples takes of a row: int64[N] positions, targets, tiles of images."""

    tokens: np.ndarray
    targets: np.ndarray
    images: np.ndarray


class Deal:
    """Which examples make a training step: `deal(step)` is int64[pairs], positions in the index. Picklable."""

    def __init__(self, lengths: np.ndarray, *, seed: int, pairs: int):
        self._lengths, self._seed, self.pairs = lengths, seed, pairs

    def __call__(self, step: int) -> np.ndarray:
        first, end = self._window(step)
        return _dealt(self, first, end)[step - first]

    def _window(self, step: int) -> tuple[int, int]:
        """First and last + 1 of the steps that are dealt together with `step`.

        Windows cut an epoch evenly. A step that straddles two epochs belongs to the first, so at the end of its last
        step an epoch has shown every example once.
        """
        count = len(self._lengths)
        epoch = step * self.pairs // count
        first, end = -(-epoch * count // self.pairs), -(-(epoch + 1) * count // self.pairs)
        windows = max(1, round((end - first) * self.pairs / WINDOW))
        bounds = first + (end - first) * np.arange(windows + 1) // windows
        number = int(np.searchsorted(bounds, step, side="right"))
        return int(bounds[number - 1]), int(bounds[number])

    def window(self, first: int, end: int) -> np.ndarray:
        """Steps first…end-1, int64[n, pairs].

        Sorted by length, stratum s holds the n examples from s·n on. Strata s and pairs-1-s are matched longest with
        shortest, so that two of their examples fill a row evenly; which step gets which match is drawn by lot.
        """
        n, pairs = end - first, self.pairs
        members = stream_positions(len(self._lengths), self._seed, first * pairs, end * pairs)
        strata = members[np.argsort(self._lengths[members], kind="stable")].reshape(pairs, n)
        lots = generator(self._seed, first, purpose="deal")
        steps = np.empty((n, pairs), np.int64)
        for low in range((pairs + 1) // 2):
            high, lot = pairs - 1 - low, lots.permutation(n)
            steps[:, low] = strata[low][lot]
            if high != low:
                steps[:, high] = strata[high][::-1][lot]
        return steps


@lru_cache(maxsize=4)
def _dealt(deal: Deal, first: int, end: int) -> np.ndarray:
    return deal.window(first, end)


def best_fit(sizes: Sizes, members: Sequence[int] | np.ndarray, shape: RowShape) -> list[list[int]]:
    """Pack `members` into as few rows of `shape` as best-fit-decreasing finds; each fits a row by itself."""
    rows: list[list[int]] = []
    used: list[tuple[int, int]] = []  # targets and images in each row
    free: list[tuple[int, int]] = []  # (free positions, row) of those that take another, the fullest row first
    by_length = sorted((int(member) for member in members), key=lambda member: -sizes.tokens[member])
    for member in by_length:
        tokens, targets, images = (int(size[member]) for size in sizes)
        row = len(rows)
        for place in range(bisect.bisect_left(free, (tokens, -1)), len(free)):
            room, candidate = free[place]
            have = used[candidate]
            if have[0] + targets <= shape.targets and have[1] + images <= shape.images:
                row = candidate
                del free[place]
                break
        else:
            room = shape.row_length
            rows.append([])
            used.append((0, 0))
        rows[row].append(member)
        used[row] = (used[row][0] + targets, used[row][1] + images)
        if len(rows[row]) < shape.pairs:
            bisect.insort(free, (room - tokens, row))
    return rows


class TrainingPlan:
    """The rows of every step of training: `plan(step)` is `rows` lists of positions, the last ones may be empty."""

    def __init__(self, sizes: Sizes, deal: Deal, shape: RowShape, *, rows: int, steps: int):
        self.sizes, self.deal, self.shape, self.rows, self.steps = sizes, deal, shape, rows, steps

    def __call__(self, step: int) -> list[list[int]]:
        packed = best_fit(self.sizes, self.deal(step), self.shape)
        if len(packed) > self.rows:
            raise ValueError(f"step {step} needs {len(packed)} rows and has {self.rows}")
        return packed + [[]] * (self.rows - len(packed))


class PassPlan:
    """One pass over the examples, nearly in order (packed in windows): evaluation and the reference stage.

    wanted: bool[N], of which examples something is to be computed. Others come along where they share a row, so that
    who shares a row with whom, and with it the last digit of a result, does not depend on what is done already.
    """

    def __init__(self, sizes: Sizes, shape: RowShape, *, rows: int, wanted: np.ndarray | None = None):
        self.shape, self.rows = shape, rows
        count = len(sizes.tokens)
        self._packed = [
            row
            for start in range(0, count, WINDOW)
            for row in best_fit(sizes, range(start, min(start + WINDOW, count)), shape)
            if wanted is None or wanted[row].any()
        ]
        self.steps = -(-len(self._packed) // rows)

    def __call__(self, step: int) -> list[list[int]]:
        packed = self._packed[step * self.rows : (step + 1) * self.rows]
        return packed + [[]] * (self.rows - len(packed))


class Fit(NamedTuple):
    """A shape for the rows of a step, and how many rows a step has."""

    shape: RowShape
    rows: int


SAMPLE = 2048  # examples on which shapes are compared
STEP_LENGTH = 64  # row lengths are multiples of this
MOST_PAIRS = 8  # in a row, when lengths alone would allow more


def whole_steps(positions: int) -> int:
    """The next multiple of STEP_LENGTH."""
    return -(-positions // STEP_LENGTH) * STEP_LENGTH


def row_lengths(given: int, longest: int, longest_row: int) -> Sequence[int]:
    """Those to choose from: the given one, or (0) all that hold the longest example and are not above longest_row."""
    least = whole_steps(longest)
    return [given] if given else range(least, max(least, longest_row) + 1, STEP_LENGTH)


def fit_rows(
    sizes: Sizes,
    deal: Deal,
    shape: RowShape,
    *,
    steps: int,
    unit: int,
    longest: int,
    longest_row: int,
    pairs_per_row: int,
    image_cost: float,
) -> Fit:
    """Choose the row length, the pairs in a row and the number of rows of a step.

    Compares what a step would cost, rows · (row length + images · image_cost), and takes the cheapest; the
    fixed sizes of the result hold for every step of the run.

    Args:
      sizes: of the examples that are trained on.
      deal: who is in a step.
      shape: `row_length` 0 to choose one, the tile; the other fields are not read.
      steps: length of the run.
      unit: the number of rows is a multiple of this (devices · micro-steps).
      longest: the longest example that rows have to hold, also one that is only evaluated.
      longest_row: the most positions a row may have, if no example needs more.
      pairs_per_row: 0 as many as pay, otherwise the most.
      image_cost: what a tile of an image costs in the tower, in decoder positions.
    """
    lengths = row_lengths(shape.row_length, longest, longest_row)
    shortest = int(sizes.tokens.min())
    candidates = [
        replace(shape, row_length=length, pairs=pairs, images=pairs * int(sizes.images.max()), targets=length)
        for length in lengths
        for pairs in range(1, max(min(pairs_per_row or MOST_PAIRS, length // shortest), 1) + 1)
    ]

    def measure(candidate: RowShape, steps: range) -> tuple[float, Fit]:
        rows, images, targets, pairs = _measure(sizes, deal, candidate, steps)
        fitted = replace(candidate, pairs=pairs, images=images, targets=whole_steps(targets))
        rows = -(-rows // unit) * unit
        return rows * (candidate.row_length + images * image_cost), Fit(fitted, rows)

    # A few steps bound the cost of all from below: the promising candidates are measured to the end.
    sample = range(min(steps, max(1, SAMPLE // deal.pairs)))
    bounds = sorted((measure(candidate, sample)[0], place) for place, candidate in enumerate(candidates))
    best = math.inf, Fit(shape, 0)
    for bound, place in bounds:
        if bound >= best[0]:
            break
        best = min(best, measure(candidates[place], range(steps)), key=lambda found: found[0])
    return best[1]


def _measure(sizes: Sizes, deal: Deal, shape: RowShape, steps: range) -> tuple[int, int, int, int]:
    """The most that any of the `steps` needs: rows; and any row: images, targets, pairs."""
    most = np.zeros(4, np.int64)
    for step in steps:
        packed = [np.array(row) for row in best_fit(sizes, deal(step), shape)]
        of_rows = [(sizes.images[row].sum(), sizes.targets[row].sum(), len(row)) for row in packed]
        most = np.maximum(most, (len(packed), *np.max(of_rows, axis=0)))
    rows, images, targets, pairs = (int(value) for value in most)
    return rows, images, targets, pairs
