"""Lengths of chosen and rejected answers brought together, so that DPO does not learn length instead of truth.

Answers with fewer claims have fewer that can be rejected, so chosen answers tend to be the shorter ones. Lengths are
words between blanks. Every balance also leaves out pairs whose answers are the same text.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rlaifv_jax.feedback.rules import Pair

RATIOS = np.arange(0, 1, 0.02)
Lengths = Sequence[tuple[int, int]]  # of chosen and rejected
GAPS: dict[str, Callable[[int, int], int]] = {  # of those two: words that are too many or too few
    "one_sided": lambda chosen, rejected: rejected - chosen,
    "two_sided": lambda chosen, rejected: abs(rejected - chosen),
}


class Balanced(NamedTuple):
    """places: what is kept, ascending. about: how it was decided. ratio: largest share of the rejected answer's length
    by which those that are kept differ, None where there is none."""

    places: list[int]
    about: str
    ratio: float | None = None


def keep_all(lengths: Lengths, tolerance: float) -> Balanced:
    """No balance."""
    return Balanced(list(range(len(lengths))), "none")


def one_sided(lengths: Lengths, tolerance: float) -> Balanced:
    """The original's (utils/get_pairs_filter_shorten.py of RLAIF-V): leave out pairs whose chosen answer is too short.

    A pair goes when (rejected - chosen) / rejected is above a ratio; of the ratios 0, 0.02, … 0.98 the first is taken
    for which the mean lengths of what stays are closest, relative to the rejected answers' mean.
    """
    tried = _try(lengths, GAPS["one_sided"])
    return _told(min(tried, key=lambda found: found.distance), "shorter") if tried else NOTHING


def two_sided(lengths: Lengths, tolerance: float) -> Balanced:
    """The same both ways: leave out pairs whose chosen answer is too short or too long.

    The largest ratio is taken for which the means differ by `tolerance` at most (of the rejected answers'), so that few
    pairs go; if there is none, the first with the closest means.
    """
    tried = _try(lengths, GAPS["two_sided"])
    if not tried:
        return NOTHING
    close = [found for found in tried if found.distance <= tolerance]
    best = close[-1] if close else min(tried, key=lambda found: found.distance)
    return _told(best, "shorter or longer")


class _Tried(NamedTuple):
    ratio: float
    distance: float  # of the mean lengths, relative to the rejected answers'
    places: list[int]


def _try(lengths: Lengths, gap: Callable[[int, int], int]) -> list[_Tried]:
    """Every ratio that leaves pairs."""
    tried = []
    for ratio in map(float, RATIOS):
        places = within(lengths, ratio, gap)
        if places:
            chosen, rejected = np.mean([lengths[place] for place in places], axis=0)
            tried.append(_Tried(ratio, abs(chosen - rejected) / rejected, places))
    return tried


def within(lengths: Lengths, ratio: float, gap: Callable[[int, int], int]) -> list[int]:
    """Places of pairs whose gap(chosen, rejected) is not above `ratio` of the rejected answer's length."""
    return [
        place
        for place, (chosen, rejected) in enumerate(lengths)
        if rejected and not gap(chosen, rejected) / rejected > ratio
    ]


def _told(found: _Tried, how: str) -> Balanced:
    about = f"chosen answers are {how} by {found.ratio:.0%} at most, means differ by {found.distance:.1%}"
    return Balanced(found.places, about, found.ratio)


NOTHING = Balanced([], "nothing is left at any ratio")
BALANCES: dict[str, Callable[[Lengths, float], Balanced]] = {
    "one_sided": one_sided,
    "two_sided": two_sided,
    "none": keep_all,
}


def balance(pairs: Sequence[Pair], kind: str, tolerance: float, counts: Counter[str]) -> tuple[list[Pair], Balanced]:
    """The pairs that stay, and how that was decided. kind: a key of BALANCES. tolerance: see `two_sided`."""
    different = [pair for pair in pairs if pair.chosen.answer.strip() != pair.rejected.answer.strip()]
    counts["pairs of twice the same text"] = len(pairs) - len(different)
    found = BALANCES[kind]([pair.words for pair in different], tolerance)
    counts["pairs left out for the balance of lengths"] = len(different) - len(found.places)
    return [different[place] for place in found.places], found
