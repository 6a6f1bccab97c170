"""Percentages and F1 of AMBER, as published and as they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from eval.benchmark import Mode, ratio
from eval.rounding import rounded

START = 0.001  # of every counter of the original that becomes a denominator


def share_as_published(part: Any, wholes: Sequence[Any], of_all: float = 0) -> Any:
    percent = part / sum(whole + START for whole in wholes) * 100
    return rounded(of_all - percent if of_all else percent, 1)


def share(part: Any, wholes: Sequence[Any], of_all: float = 0) -> Any:
    """Percent that `part` is of the sum of wholes, or what it lacks to `of_all` percent."""
    percent = ratio(part, sum(wholes), 100)
    return of_all - percent if of_all else percent


def f1_as_published(precision: Any, recall: Any, title: str) -> Any:
    epsilon = 0.001 if title == "Existence" else 0.0001
    return rounded(2 * (precision / 100) * (recall / 100) / ((precision / 100) + (recall / 100) + epsilon) * 100, 1)


def f1(precision: Any, recall: Any, title: str) -> Any:
    return ratio(2 * precision * recall, precision + recall)


@dataclass(frozen=True)
class Arithmetic:
    share: Callable[..., Any]
    f1: Callable[[Any, Any, str], Any]


ARITHMETIC: dict[Mode, Arithmetic] = {
    "compat": Arithmetic(share_as_published, f1_as_published),
    "fixed": Arithmetic(share, f1),
}
