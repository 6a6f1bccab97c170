"""Lengths brought together: the original's worked examples, a slow restatement, and the switch that looks both ways."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaifv_jax.feedback.balance import BALANCES, balance, one_sided, two_sided, within
from rlaifv_jax.feedback.rules import Judged, Pair

FIVE = [(10, 10), (9, 10), (5, 10), (20, 10), (1, 10)]
Lengths = list[tuple[int, int]]


def pair(chosen: str, rejected: str) -> Pair:
    def judged(text: str) -> Judged:
        return Judged(0, "a", "q", text, (), ())

    return Pair(judged(chosen), judged(rejected), (0.0, -1.0))


def shorter(chosen: int, rejected: int) -> int:
    return rejected - chosen


def test_length_filter_01() -> None:
    assert within(FIVE, 0.10, shorter) == [0, 1, 3]


def test_length_filter_08_09_empty_texts() -> None:
    assert within([(3, 0)], 0.98, shorter) == []
    assert [within([(0, 5)], float(ratio), shorter) for ratio in np.arange(0, 1, 0.02)] == [[]] * 50
    assert within([(0, 5)], 1.0, shorter) == [0]


def test_balance_00() -> None:
    found = one_sided(FIVE, 0)
    assert found.places == [0, 1, 2, 3]  # means 11 against 10
    assert found.about == "chosen answers are shorter by 50% at most, means differ by 10.0%"
    assert found.ratio == 0.5


def test_balance_01() -> None:
    found = one_sided([(70, 100), (120, 100), (100, 100), (98, 100), (97, 100), (40, 100)], 0)
    assert found.places == [0, 1, 2, 3, 4]
    assert found.about == "chosen answers are shorter by 30% at most, means differ by 3.0%"


def test_balance_03_the_smallest_of_equal_ratios() -> None:
    assert one_sided([(8, 10), (12, 10)], 0).about.startswith("chosen answers are shorter by 20% at most")


def test_balance_04_nothing_left() -> None:
    assert one_sided([(0, 10), (0, 10)], 0).places == []
    assert one_sided([], 0).places == []
    assert one_sided([(9, 10)], 0).places == [0]  # nothing at ratio 0, something later


def test_the_same_text_is_no_pair() -> None:
    counts = Counter[str]()
    kept, _ = balance([pair("a b", " a b "), pair("a b", "c d")], "one_sided", 0.01, counts)
    assert [k.rejected.answer for k in kept] == ["c d"]
    assert counts["pairs of twice the same text"] == 1


@pytest.mark.parametrize("kind", BALANCES)
def test_no_pairs(kind: str) -> None:
    assert balance([], kind, 0.01, Counter())[0] == []


def slow(lengths: Lengths) -> list[int]:
    """Try every ratio; take the first with the least relative difference of means."""
    tried = []
    for ratio in np.arange(0, 1, 0.02):
        kept = [k for k, (c, r) in enumerate(lengths) if r > 0 and (r - c) / float(r) <= ratio]
        if kept:
            chosen = sum(lengths[k][0] for k in kept) / len(kept)
            rejected = sum(lengths[k][1] for k in kept) / len(kept)
            tried.append((abs(chosen - rejected) / rejected, kept))
    return min(tried, key=lambda found: found[0])[1] if tried else []


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12))
def test_one_sided_is_the_search(lengths: Lengths) -> None:
    assert one_sided(lengths, 0).places == slow(lengths)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=12))
def test_two_sided_is_the_search_both_ways(lengths: Lengths) -> None:
    tried = []
    for ratio in np.arange(0, 1, 0.02):
        kept = [k for k, (c, r) in enumerate(lengths) if r > 0 and abs(r - c) / float(r) <= ratio]
        if kept:
            chosen, rejected = (sum(lengths[k][side] for k in kept) / len(kept) for side in (0, 1))
            tried.append((abs(chosen - rejected) / rejected, kept))
    close = [kept for distance, kept in tried if distance <= 0.01]
    nearest = min(tried, key=lambda found: found[0])[1] if tried else []
    assert two_sided(lengths, 0.01).places == (close[-1] if close else nearest)


def test_two_sided_leaves_out_long_chosen_answers_too() -> None:
    found = two_sided([*FIVE, (10, 10), (11, 10)], 0.01)
    assert found.places == [0, 1, 5, 6]
    assert found.about == "chosen answers are shorter or longer by 48% at most, means differ by 0.0%"
