"""RefoMB: how verdicts are read, both questions to the judge, and figures by hand."""

from pathlib import Path

import pytest

from eval import prompts
from eval.benchmark import Item, Row, Tools
from eval.judge.request import Request
from eval.refomb import CATEGORIES, OVERALL, REFOMB, verdict, verdict_as_published
from eval.scores import metrics_of
from tests.eval.judges import Scripted

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "eval"
TOLD = prompts.load(REFOMB.stages)


@pytest.mark.parametrize(
    ("reply", "published", "fixed"),
    [
        ("B is better. [[B]]", 1, 1),
        ("[[C]]", 0, 0),
        ("I choose among [[A]], [[B]] and [[C]]. Verdict: [[B]]", -1, 1),
        ("[[ B ]]", None, 1),
        ("[[**A**]]", None, -1),
        ("[A]", None, -1),
        ("[[b]]", None, None),
        ("B", None, None),
    ],
)
def test_verdicts(reply: str, published: int | None, fixed: int | None) -> None:
    assert verdict_as_published(reply) == published
    assert verdict(reply) == fixed


def row(number: int, kind: str = "OCR") -> Row:
    reference = {"description": f"scene {number}", "answer": f"theirs {number}"}
    return Row(Item(str(number), f"what {number}?", category=kind, reference=reference), f"ours {number}")


def test_figures_by_hand() -> None:
    """Five answers: win, win, tie, loss, and one whose second verdict is missing."""
    overall = {0: "[[B]]", 1: "[[B]]", 2: "[[C]]", 3: "[[A]]", 4: "[[B]]"}
    trust = {0: "[[B]]", 1: "[[C]]", 2: "[[A]]", 3: "[[A]]", 4: "none"}

    def say(request: Request) -> str:
        number = next(n for n in overall if f"ours {n}" in request.user or f"review {n}." in request.user)
        return f"review {number}. {overall[number]}" if request.stage == OVERALL else trust[number]

    rows = [row(number, CATEGORIES[number % 2]) for number in range(5)]
    REFOMB.examine(rows, Tools("compat", Scripted(say), prompts=TOLD.texts))
    assert [row.failed for row in rows] == ["", "", "", "", "unreadable"]
    assert len(rows[0].replies) == 2
    found = metrics_of(REFOMB, [REFOMB.counts(row) for row in rows if not row.failed], "compat")
    assert found["Win."] == 100 * 2.5 / 4
    assert found["Trust."] == 100 * 1.5 / 4
    assert (found["win"], found["tie"], found["loss"]) == (2, 1, 1)
    assert found[f"Win. ({CATEGORIES[0]})"] == 75
    assert found[f"Win. ({CATEGORIES[1]})"] == 50
    assert found["Win. (OCR)"] is None


def test_both_orders_cancel_a_judge_that_prefers_the_first() -> None:
    judge = Scripted(lambda _: "[[A]]")
    rows = [row(0)]
    REFOMB.examine(rows, Tools("fixed", judge, prompts=TOLD.texts, swap=True))
    assert rows[0].values == {"win": 0, "trust": 0, "type": "OCR"}
    first, second = (request.user for request in judge.heard if request.stage == OVERALL)
    assert first.index("theirs 0") < first.index("ours 0")
    assert second.index("ours 0") < second.index("theirs 0")


def test_the_second_question_is_about_the_review_alone() -> None:
    judge = Scripted(lambda request: "my review [[B]]" if request.stage == OVERALL else "[[C]]")
    REFOMB.examine([row(0)], Tools("compat", judge, prompts=TOLD.texts))
    (compared, read) = judge.heard
    assert "scene 0" in compared.user
    assert "my review [[B]]" in read.user
    assert "ours 0" not in read.user
    assert (compared.temperature, read.temperature) == (1e-5, 0.0)


def test_the_real_questions() -> None:
    if not REAL.exists():
        pytest.skip("the published files are not here")
    items = REFOMB.items(REAL)
    assert len(items) == 99
    assert {kind: sum(item.category == kind for item in items) for kind in CATEGORIES} == dict(
        zip(CATEGORIES, (19, 24, 14, 12, 4, 3, 12, 11), strict=True)
    )
    rows = [Row(item, "A picture.") for item in items]
    replies = iter(["[[A]]"] * 75 + ["[[C]]"] * 11 + ["[[B]]"] * 13 + ["[[B]]"] * 99)
    REFOMB.examine(rows, Tools("compat", Scripted(lambda _: next(replies)), prompts=TOLD.texts))
    found = metrics_of(REFOMB, [REFOMB.counts(row) for row in rows], "compat")
    assert found["Win."] == pytest.approx(100 * 18.5 / 99)
    assert found["Trust."] == 100
