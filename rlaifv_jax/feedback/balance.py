"""Lengths of chosen and rejected answers brought together, so that DPO does not learn length instead of truth.

Answers with fewer claims have fewer that can be rejected, so chosen answers tend to be the shorter ones. Lengths are
words between blanks. Every balance also leaves out pairs whose answers are the same text.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rlaifv_jax.feedback.pairs import Pair

RATIOS = np.arange(0, 1, 0.02)
Lengths = Sequence[tuple[int, int]]  # of chosen and rejected


class Balanced(NamedTuple):
    """places: what is kept, ascending. about: how it was decided."""

    places: list[int]
    about: str


def keep_all(lengths: Lengths) -> Balanced:
    return Balanced(list(range(len(lengths))), "none")


def one_sided(lengths: Lengths) -> Balanced:
    """The original's (utils/get_pairs_filter_shorten.py of RLAIF-V): leave out pairs whose chosen answer is too short.

    A pair goes when (rejected - chosen) / rejected is above a ratio; of the ratios 0, 0.02, … 0.98 the first is taken
    for which the mean lengths of what stays are closest, relative to the rejected answers' mean.
    """
    best: tuple[float, float, list[int]] | None = None
    for ratio in RATIOS:
        places = within(lengths, float(ratio))
        if not places:
            continue
        chosen, rejected = np.mean([lengths[place] for place in places], axis=0)
        distance = abs(chosen - rejected) / rejected
        if best is None or distance < best[0]:
            best = distance, float(ratio), places
    if best is None:
        return Balanced([], "nothing is left at any ratio")
    return Balanced(best[2], f"chosen answers are shorter by {best[1]:.0%} at most, means differ by {best[0]:.1%}")


def within(lengths: Lengths, ratio: float) -> list[int]:
    """Places of pairs whose chosen answer is not shorter by more than `ratio` of the rejected one."""
    return [
        place
        for place, (chosen, rejected) in enumerate(lengths)
        if rejected and not (rejected - chosen) / rejected > ratio
    ]


def two_sided(lengths: Lengths) -> Balanced:
    """Leave out the pairs that lean most to the side to which all lean together, until the means are equal.

    Nothing but what is needed goes: pairs with a longer chosen answer make up for others with a shorter one.
    """
    gaps = [chosen - rejected for chosen, rejected in lengths]
    total = sum(gaps)
    side = 1 if total > 0 else -1
    leaning = sorted((place for place, gap in enumerate(gaps) if gap * side > 0), key=lambda p: (-side * gaps[p], p))
    dropped = set()
    for place in leaning:
        if abs(total - gaps[place]) < abs(total):
            total -= gaps[place]
            dropped.add(place)
    places = [place for place in range(len(gaps)) if place not in dropped]
    return Balanced(places, f"mean lengths differ by {total / max(len(places), 1):+.2f} words")


BALANCES: dict[str, Callable[[Lengths], Balanced]] = {
    "one_sided": one_sided,
    "two_sided": two_sided,
    "none": keep_all,
}


def balance(pairs: Sequence[Pair], kind: str, counts: Counter[str]) -> tuple[list[Pair], str]:
    """The pairs that stay, and a sentence on how. kind: a key of BALANCES."""
    different = [pair for pair in pairs if pair.chosen.answer.strip() != pair.rejected.answer.strip()]
    counts["pairs of twice the same text"] = len(pairs) - len(different)
    found = BALANCES[kind]([pair.words for pair in different])
    counts["pairs left out for the balance of lengths"] = len(different) - len(found.places)
    return [different[place] for place in found.places], found.about
