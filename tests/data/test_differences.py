"""Marks of changed tokens: against values that the original was run on, and against difflib itself."""

import itertools
import time
from difflib import SequenceMatcher

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.differences import MIN_MATCH, Differences, changed, changed_in_rows
from rlaifv_jax.data.encode import Answer, Encoded
from rlaifv_jax.data.tiles import in_order

CHOSEN = [1, 11, 12, 13, 21, 22, 23, 24, 25, 2]
REJECTED = [1, 11, 12, 13, 21, 22, 33, 34, 35, 24, 25, 26, 2]
PAD = 0


def ids(tokens):
    return np.array(tokens, np.int32)


def places(marks):
    return [np.flatnonzero(each).tolist() for each in marks]


def encoded(prefix, chosen, rejected, image_tokens=0, labels=None):
    answers = [
        Answer(ids(each), np.ones(len(each), bool) if labels is None else np.array(labels))
        for each in (chosen, rejected)
    ]
    return Encoded(ids(prefix), tuple(answers), (False, False), in_order(image_tokens) if image_tokens else None)


def independent(chosen, rejected):
    """The rule said another way: a token is unchanged, or it stands opposite nothing, or it is changed."""
    blocks = SequenceMatcher(a=rejected, b=chosen).get_matching_blocks()
    kept = [(-1, -1, 1), *(tuple(block) for block in blocks[:-1] if block.size >= 3), tuple(blocks[-1])]
    gaps = [
        (range(a + size, next_a), range(b + size, next_b))
        for (a, b, size), (next_a, next_b, _) in itertools.pairwise(kept)
    ]
    both = [gap for gap in gaps if len(gap[0]) and len(gap[1])]
    return [[place for gap in both for place in gap[side]] for side in (1, 0)]


@pytest.mark.parametrize("autojunk", [False, True])
@pytest.mark.parametrize(
    ("rejected", "chosen", "expected"),
    [
        ([1, 2, 3, 9, 5, 6, 7], [1, 2, 3, 8, 5, 6, 7], [[3], [3]]),
        ([1, 2, 3, 4, 5, 6], [1, 2, 3, 8, 8, 4, 5, 6], [[], []]),  # an insertion counts for nothing
        ([1, 2, 3, 8, 8, 4, 5, 6], [1, 2, 3, 4, 5, 6], [[], []]),  # nor does what is left out
        ([9, 1, 2, 9], [8, 1, 2, 8], [[0, 1, 2, 3], [0, 1, 2, 3]]),  # two equal tokens are too few
        (REJECTED[1:], CHOSEN[1:], [[5, 6, 7, 8], [5, 6, 7, 8, 9, 10, 11]]),
        ([1, 2, 3], [1, 2, 3], [[], []]),
        ([], [1, 2], [[], []]),
        ([1], [2], [[0], [0]]),
    ],
)
def test_worked_values(rejected, chosen, expected, autojunk):
    assert places(changed(ids(chosen), ids(rejected), autojunk=autojunk)) == expected


def test_marks_of_a_pair_depend_on_the_batch_it_is_padded_in():
    """The original's `padded_batch`: zeros at the end of both rows match, and what lies between them shrinks."""
    alone = changed_in_rows(ids(CHOSEN), ids(REJECTED), length=0, pad=PAD)
    assert [len(marks) for marks in alone] == [9, 12]
    assert places(alone)[0] == [5, 6, 7, 8]
    pair = changed_in_rows(ids(CHOSEN), ids(REJECTED), length=13, pad=PAD)
    batch = changed_in_rows(ids(CHOSEN), ids(REJECTED), length=20, pad=PAD)
    assert [len(marks) for marks in pair + batch] == [12, 12, 19, 19]
    expected = [
        independent(*([*row, *[PAD] * (length - len(row))][1:] for row in (CHOSEN, REJECTED))) for length in (13, 20)
    ]
    assert [places(pair), places(batch)] == expected
    assert places(pair) != places(batch)
    # [2, 0, 0, 0] end both rows of a longer batch, so the end token is no longer changed.
    assert 8 in places(pair)[0]
    assert 8 not in places(batch)[0]


def random_pairs(count):
    """Pairs with common parts, of alphabets so small and answers so long that frequent tokens matter."""
    rng = np.random.default_rng(0)
    for number in range(count):
        letters = (3, 12, 60, 32000)[number % 4]
        first, second = (rng.integers(3, 3 + letters, rng.integers(0, 401)) for _ in range(2))
        if number % 3:  # an edited copy instead
            second = first.copy()
            for _ in range(rng.integers(0, 8)):
                place, size, other = rng.integers(0, len(second) + 1), rng.integers(0, 6), rng.integers(0, 6)
                second = np.concatenate([second[:place], rng.integers(3, 3 + letters, other), second[place + size :]])
        yield ids(first), ids(second)


def test_1000_random_pairs_equal_difflib():
    frequent = padded = 0
    for chosen, rejected in random_pairs(1000):
        expected = independent(chosen[1:].tolist(), rejected[1:].tolist())
        assert places(changed_in_rows(chosen, rejected, length=0, pad=PAD)) == expected
        frequent += places(changed(chosen[1:], rejected[1:], autojunk=False)) != expected
        length = max(len(chosen), len(rejected))
        rows = [np.pad(row, (0, length - len(row)))[1:].tolist() for row in (chosen, rejected)]
        expected = independent(*rows)
        assert places(changed_in_rows(chosen, rejected, length=length, pad=PAD)) == expected
        padded += bool(expected[0])
    assert frequent > 100  # the shortcut of autojunk made a difference
    assert padded > 500


@pytest.mark.parametrize(("spread", "copies"), [(False, 1), (True, 70)])
@pytest.mark.parametrize("mode", ["difflib_autojunk", "padded_batch"])
def test_parity_modes_see_the_whole_conversation(mode, spread, copies):
    rng = np.random.default_rng(1)
    for _ in range(40):
        prefix = rng.integers(3, 9, 20)
        chosen, rejected = (rng.integers(3, 9, rng.integers(2, 190)) for _ in range(2))
        pair = encoded([*prefix[:5], IMAGE_TOKEN, *prefix[5:]], chosen, rejected, image_tokens=70)
        rows = [[*prefix[:5], *[IMAGE_TOKEN] * copies, *prefix[5:], *answer] for answer in (chosen, rejected)]
        if mode == "padded_batch":
            rows = [row + [PAD] * (max(map(len, rows)) - len(row)) for row in rows]
        whole = independent(*(row[1:] for row in rows))
        start = len(prefix) + copies - 1
        marks = Differences(mode, spread, PAD).marks(pair)
        for found, places_, answer in zip(marks, whole, (chosen, rejected), strict=True):
            assert len(found) == len(answer)
            within = [place - start for place in places_ if start <= place < start + len(answer)]
            assert np.flatnonzero(found).tolist() == within


def test_answers_are_compared_without_their_prompt_and_unlabelled_tokens():
    exact = Differences("answers", spread_image=True, pad=PAD)
    labels = [True] * 5 + [False] * 3
    pair = encoded([7, 7, 7], [7, 5, 6, 7, 8, 1, 1, 1], [4, 5, 6, 7, 9, 1, 1, 1], labels=labels)
    assert places(exact.marks(pair)) == [[0, 4], [0, 4]]
    assert [len(marks) for marks in exact.marks(pair)] == [5, 5]


tokens = st.lists(st.integers(0, 4), max_size=40)


@given(tokens, tokens)
def test_marks_come_in_pairs(chosen, rejected):
    """Both sides have marks or neither. Equal answers have none, but where they are too short to match."""
    marks = changed(ids(chosen), ids(rejected), autojunk=False)
    assert marks[0].any() == marks[1].any()
    if chosen == rejected and len(chosen) >= MIN_MATCH:
        assert not marks[0].any()
    if len(chosen) < MIN_MATCH and chosen and rejected:
        assert marks[0].all()
        assert marks[1].all()


@given(tokens, tokens, tokens)
def test_a_common_prompt_changes_nothing_in_answers(prefix, chosen, rejected):
    exact = Differences("answers", spread_image=False, pad=PAD)
    pair, other = encoded([1, *prefix], chosen, rejected), encoded([1], chosen, rejected)
    assert places(exact.marks(pair)) == places(exact.marks(other))


@given(tokens, tokens.filter(lambda each: len(each) >= MIN_MATCH), tokens)
def test_only_the_replaced_segment_of_a_correction_is_marked(before, after, replacement):
    """Words that are nowhere else, put in the place of others between two unchanged stretches."""
    before = [1, 2, 3, *before]
    wrong, right = [100, 101], [200 + token for token in replacement]
    marks = changed(ids(before + right + after), ids(before + wrong + after), autojunk=False)
    if replacement:
        segment = range(len(before), len(before) + len(right))
        assert places(marks) == [list(segment), [len(before), len(before) + 1]]
    else:
        assert places(marks) == [[], []]


@pytest.mark.parametrize("answers", [([1] * 2000, [1, 2] * 1000), ([1, 2, 3, 4, 5] * 400, [1, 2, 3, 4, 6] * 400)])
def test_answers_that_loop_take_no_minutes(answers):
    chosen, rejected = (np.array(tokens, np.int32) for tokens in answers)
    pair = [Answer(tokens, np.ones(len(tokens), bool)) for tokens in (chosen, rejected)]
    started = time.perf_counter()
    marks = Differences("answers", spread_image=False, pad=0).marks(
        Encoded(chosen[:3], tuple(pair), (False, False), None)
    )
    assert time.perf_counter() - started < 5  # 65 s without the bound
    assert [len(each) for each in marks] == [len(chosen), len(rejected)]
    assert all(each.any() for each in marks)
