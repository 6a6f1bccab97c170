"""Sums, repetitions and intervals."""

from typing import Any

import numpy as np
import pytest

from eval.benchmark import Item, Row, ratio
from eval.scores import averaged, intervals, mean_counts, metrics_of


class Share:
    """One metric: how many are right; and one that no answer defines."""

    def counts(self, row: Row) -> dict[str, float]:
        return {"n": 1, "right": row.values["right"], "never": 0}

    def metrics(self, sums: Any, mode: str) -> dict[str, Any]:
        return {"share": ratio(sums["right"], sums["n"], 100), "nothing": ratio(sums["right"], sums["never"])}


SHARE: Any = Share()


def rows(*right: int, failed: tuple[int, ...] = ()) -> list[Row]:
    return [
        Row(Item(str(n), ""), "", values={"right": value}, failed="lost" if n in failed else "")
        for n, value in enumerate(right)
    ]


def test_metrics_are_json_values() -> None:
    counts = [SHARE.counts(row) for row in rows(1, 0, 1, 1)]
    assert metrics_of(SHARE, counts, "compat") == {"share": 75.0, "nothing": None}
    assert metrics_of(SHARE, [], "compat") == {}


def test_repetitions() -> None:
    means, spread = averaged([{"share": 70.0, "nothing": None}, {"share": 80.0, "nothing": None}])
    assert means == {"share": 75.0, "nothing": None}
    assert spread == {"share": pytest.approx(np.std([70, 80], ddof=1))}
    assert averaged([{"share": 70.0}]) == ({"share": 70.0}, {})


def test_an_item_that_failed_once_is_in_no_mean() -> None:
    runs = [rows(1, 0, 1), rows(0, 0, 1, failed=(2,))]
    counted = [[{} if row.failed else SHARE.counts(row) for row in rows] for rows in runs]
    means = [mean for each in zip(*counted, strict=True) if (mean := mean_counts(each))]
    assert [counts["right"] for counts in means] == [0.5, 0.0]


def test_intervals_are_those_of_a_share() -> None:
    """Against the normal approximation: 100 answers, 80 % right."""
    counts = [SHARE.counts(row) for row in rows(*[1] * 80, *[0] * 20)]
    found = intervals(SHARE, counts, "compat")
    low, high = found["share"]
    assert "nothing" not in found
    assert (low, high) == (pytest.approx(80 - 1.96 * 4, abs=1.2), pytest.approx(80 + 1.96 * 4, abs=1.2))
    assert found == intervals(SHARE, counts, "compat")  # the same numbers every time
