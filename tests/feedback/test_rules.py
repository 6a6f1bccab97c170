"""Which answers make a pair: the worked examples of the original, and a slow restatement of its rules."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.judged import judge
from rlaifv_jax.feedback.rules import Pair, Rules, accepts, make_pairs
from tests.feedback.feeds import NO, YES, answer, judged

EVERY = Rules(cap=0, consistent=False)


def claims(count: int, name: str = "c") -> list[str]:
    return [f"{name}{number}" for number in range(count)]


def pairs(*answers: Any, rules: Rules = EVERY, counts: Counter[str] | None = None) -> list[tuple[str, str]]:
    """(chosen, rejected) question_ids of all pairs."""
    counts = Counter() if counts is None else counts
    records, feedback = judged(*answers)
    kept = judge(records, feedback, counts)
    return [names(pair) for pair in make_pairs(kept, rules, counts)]


def names(pair: Pair) -> tuple[str, str]:
    return pair.chosen.answer.removeprefix("answer "), pair.rejected.answer.removeprefix("answer ")


def one(number: int, rejected: int, of: int, **more: Any) -> Any:
    """An answer with `of` claims, `rejected` of them rejected."""
    return answer(number, claims(of), **more), [False] * rejected + [True] * (of - rejected)


def test_pairs_00_three_scores() -> None:
    assert sorted(pairs(one(0, 0, 2), one(1, 1, 2), one(2, 2, 2))) == [("0", "1"), ("0", "2"), ("1", "2")]


def test_pairs_01_the_share_of_claims_is_ignored() -> None:
    both = one(0, 1, 2), one(1, 1, 1)
    assert pairs(*both) == []
    mended = Rules(score="claim_fraction", difference=0.01, cap=0)
    assert pairs(*both, rules=mended) == [("0", "1")]


def test_pairs_02_ties_are_rejected() -> None:
    tie = {"yes": 0.2, "Yes": 0.3, "no": 0.25, "No": 0.25}
    more = {"yes": 0.51, "Yes": 0.0, "no": 0.49, "No": 0.0}
    assert not accepts(tie)
    assert pairs((answer(0, claims(1)), [tie]), (answer(1, claims(1)), [more])) == [("1", "0")]


def test_pairs_03_masses_count_and_not_the_likeliest_token() -> None:
    assert accepts({"yes": 0.30, "Yes": 0.05, "no": 0.0, "No": 0.34})
    assert not accepts({"yes": 0.05, "Yes": 0.28, "no": 0.20, "No": 0.14})


def test_pairs_04_no_mass_is_rejected() -> None:
    nothing = {"yes": 0.0, "Yes": 0.0, "no": 0.0, "No": 0.0}
    assert not accepts(nothing)
    assert accepts(nothing | {"yes": 1e-9})


def test_pairs_05_few_claims_win() -> None:
    assert pairs(one(0, 1, 10), one(1, 0, 1)) == [("1", "0")]


def test_pairs_06_an_answer_without_claims_is_in_no_pair() -> None:
    counts = Counter[str]()
    assert pairs(one(0, 1, 2), (answer(1, []), []), counts=counts) == []
    assert counts["answers without verdicts"] == 1


def test_pairs_07_08_only_answers_to_one_question_about_one_picture() -> None:
    assert pairs(one(0, 0, 1, question="q"), one(1, 1, 1, question="p")) == []
    assert pairs(one(0, 0, 1, group="a"), one(1, 1, 1, group="b")) == []


def test_pairs_09_a_larger_difference() -> None:
    rules = Rules(difference=2, cap=0, consistent=False)
    assert pairs(one(0, 0, 2), one(1, 1, 2), one(2, 2, 2), rules=rules) == [("0", "2")]


def test_pairs_10_a_claim_twice_counts_twice_and_is_left_out_later() -> None:
    twice = answer(0, ["a", "a"]), [False, False]
    assert pairs(twice, one(1, 1, 1)) == [("1", "0")]
    counts = Counter[str]()
    assert pairs(twice, one(1, 1, 1), rules=Rules(cap=0), counts=counts) == []
    assert counts["pairs whose verdicts do not cover the claims"] == 1


def test_pairs_12_ten_answers() -> None:
    assert len(pairs(*(one(n, n, 9) for n in range(10)))) == 45


def test_build_03_04_answers_whose_verdicts_do_not_cover_their_claims() -> None:
    fewer = answer(0, claims(3), changed_facts=["c0?", "c1?"]), [True, True]
    assert pairs(fewer, one(1, 2, 2), rules=Rules(cap=0)) == []
    assert pairs(fewer, one(1, 2, 2)) == [("0", "1")]


def test_build_05_an_empty_claim_does_not_count() -> None:
    record = answer(0, ["There is a dog.", ""], changed_facts=["Is there a dog?"])
    assert pairs((record, [True]), one(1, 1, 1), rules=Rules(cap=0)) == [("0", "1")]


def test_build_06_all_alike() -> None:
    counts = Counter[str]()
    assert pairs(one(0, 1, 2), one(1, 1, 3), one(2, 1, 1), counts=counts) == []
    assert counts["combinations with scores too alike"] == counts["combinations of two answers"] == 3


def test_build_07_an_at_sign_in_a_question() -> None:
    assert pairs(one(0, 0, 1, question="Mail me@home"), one(1, 1, 1, question="Mail me@home")) == [("0", "1")]


def test_build_09_numbers_as_groups() -> None:
    records, feedback = judged(one(0, 0, 1, group=7), one(1, 1, 1, group=7))
    (pair,) = make_pairs(judge(records, feedback, Counter()), EVERY, Counter())
    assert pair.chosen.group == "7"


def test_build_12_answers_that_share_a_number_are_told_apart_by_their_text() -> None:
    same = [(answer(5, claims(1), text=f"answer {n}"), [n > 0]) for n in range(2)]
    assert pairs(*same) == [("1", "0")]


def test_answers_that_share_even_the_text_take_verdicts_in_turn() -> None:
    records, feedback = judged(
        *((answer(5, claims(2), text="x"), verdicts) for verdicts in ([True, True], [False, True], [False, False]))
    )
    counts = Counter[str]()
    assert [kept.rejected for kept in judge(records, feedback, counts)] == [0, 1, 2]
    assert counts["answers with the number and text of another"] == 2


def test_dedupe_01_a_question_that_comes_back() -> None:
    names = "aabaa"
    answers = [one(n, n, 5, group=name) for n, name in enumerate(names)]
    counts = Counter[str]()
    assert pairs(*answers, counts=counts) == [("0", "1")]
    assert counts["answers of a question that was asked before"] == 2
    assert counts["claims about answers that are not there"] == 10
    assert pairs(*[one(n, n, 5, group=name) for n, name in enumerate("aabab")]) == [("0", "1"), ("2", "4")]


def test_sample_01_the_cap() -> None:
    scores = {"a": [0, 1, 2, 3], "b": [0, 1], "c": [0, 1, 2]}  # 6, 1 and 3 pairs
    answers = [one(10 * ord(g) + n, n, 3, group=g) for g, each in scores.items() for n in each]
    counts = Counter[str]()
    found = pairs(*answers, rules=Rules(cap=2), counts=counts)
    assert Counter(chr(int(chosen) // 10) for chosen, _ in found) == {"a": 2, "b": 1, "c": 2}
    assert counts["pairs over the cap"] == 5
    assert found == pairs(*answers, rules=Rules(cap=2))
    others = [pairs(*answers, rules=Rules(cap=2, seed=seed)) for seed in range(8)]
    assert len({str(other) for other in others}) > 2
    without_b = pairs(*(a for a in answers if a[0]["ds_question_id"] != "b"), rules=Rules(cap=2))
    assert without_b == [pair for pair in found if chr(int(pair[0]) // 10) != "b"]


def test_the_cap_is_the_picture_s_or_the_question_s() -> None:
    answers = [one(10 * q + n, n, 2, question=f"q{q}") for q in range(3) for n in range(3)]
    assert len(pairs(*answers, rules=Rules(cap=2))) == 2
    assert len(pairs(*answers, rules=Rules(cap=2, cap_by="question"))) == 6


def test_groups_fall_back_on_the_picture() -> None:
    answers = [answer(number, claims(1), group=None, picture=picture) for number, picture in enumerate("xxy")]
    assert pairs(*zip(answers, ([True], [False], [False]), strict=True)) == [("0", "1")]


def test_claims_with_an_error_make_an_answer_unusable() -> None:
    records, feedback = judged(one(0, 0, 2), one(1, 1, 2))
    feedback[0]["error"] = "image_missing"
    counts = Counter[str]()
    assert [kept.row for kept in judge(records, feedback, counts)] == [1]
    assert counts["answers with a claim that has an error"] == 1


def test_feedback_without_scores() -> None:
    records, feedback = judged(one(0, 0, 2))
    del feedback[1]["scores"]["No"]
    with pytest.raises(
        UserError, match=r"feedback on question_id 0 has scores \{.*\}; those of yes, Yes, no, No are needed"
    ):
        judge(records, feedback, Counter())


@pytest.mark.parametrize(("setting", "value"), [("score", "best"), ("cap_by", "row"), ("difference", 0), ("cap", -1)])
def test_rules_that_mean_nothing(setting: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"pairs.{setting}"):
        Rules(**{setting: value})


# ------------------------------------------------------------------------------- the rules again, slow and obvious


def slow(answers: list[Any], least: float) -> list[tuple[str, str]]:
    """All pairs, before cap and balance, as section 3.8 of the original's rules reads."""
    found = []
    for i, (one, of_one) in enumerate(answers):
        for other, of_other in answers[i + 1 :]:
            if one["ds_question_id"] != other["ds_question_id"] or one["raw_question"] != other["raw_question"]:
                continue
            if not of_one or not of_other:
                continue
            score = [-sum(not accepted for accepted in each) for each in (of_one, of_other)]
            if abs(score[0] - score[1]) < least:
                continue
            better, worse = (one, other) if score[0] > score[1] else (other, one)
            covered = []
            for record, each in ((one, of_one), (other, of_other)):
                asked = {record["changed_facts"][place % len(record["changed_facts"])] for place in range(len(each))}
                covered.append(len(asked) == len([fact for fact in record["facts"] if fact != ""]))
            if all(covered):
                found.append((str(better["question_id"]), str(worse["question_id"])))
    return found


@st.composite
def many_answers(draw: st.DrawFn) -> list[Any]:
    found = []
    number = 0
    for group in "ab":
        for question in "pq":
            for _ in range(draw(st.integers(0, 4))):
                texts = draw(st.lists(st.sampled_from(["x", "y", "z", ""]), max_size=4))
                record = answer(number, texts, group=group, question=question)
                found.append((record, draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))))
                number += 1
    return found


@settings(max_examples=200, deadline=None)
@given(many_answers(), st.sampled_from([1, 2, 3]))
def test_fast_and_slow_agree(answers: list[Any], least: int) -> None:
    counts = Counter[str]()
    found = pairs(*answers, rules=Rules(difference=least, cap=0), counts=counts)
    assert sorted(found) == sorted(slow(answers, least))
    left_out = ("combinations with scores too alike", "pairs whose verdicts do not cover the claims")
    assert counts["combinations of two answers"] == len(found) + sum(counts[what] for what in left_out)


def test_yes_and_no_of_these_tests() -> None:
    assert accepts(YES)
    assert not accepts(NO)
