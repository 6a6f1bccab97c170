"""MMHal-Bench: how ratings are read, and figures by hand."""

import json
from pathlib import Path

import pytest

from eval import answers, prompts
from eval.benchmark import Item, Row, Tools
from eval.mmhal import MMHAL, TYPES, rating, rating_as_published
from eval.scores import metrics_of
from rlaifv_jax.errors import UserError
from tests.eval.judges import Scripted

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "eval"


@pytest.mark.parametrize(
    ("reply", "published", "fixed"),
    [
        ("Sound.\nRating: 4", 4, 4),
        ("rating: 5, very informative", 5, 5),
        ("**Rating:** 4", 0, 4),
        ("Rating: **4**", 0, 4),
        ("Rating:4", 0, 4),
        ("Rating:  2", 0, 2),
        ("Rating:\n3", 0, 3),
        ("Score: 5", 0, None),
        ("Rating: 3.5", 3, None),
        ("Rating: 10", 1, None),
        ("Rating: 6\nRating: 6", 6, 6),
        ("One could say rating: 2, but no. Rating: 5", 0, 5),
        ("", 0, None),
    ],
)
def test_ratings(reply: str, published: int, fixed: int | None) -> None:
    assert rating_as_published(reply) == published
    assert rating(reply) == fixed


def row(number: int, kind: str) -> Row:
    reference = {"contents": ["Dog", "Ball {x}"], "answer": "Two."}
    return Row(Item(str(number), f"How many {number}?", category=kind, reference=reference), f"answer {number}")


def examined(mode: str, replies: list[str | None]) -> list[Row]:
    rows = [row(number, TYPES[0]) for number in range(len(replies))]
    said = iter(replies)
    told = prompts.load(MMHAL.stages)
    MMHAL.examine(rows, Tools(mode, Scripted(lambda _: next(said)), prompts=told.texts))  # type: ignore[arg-type]
    return rows


def test_figures_by_hand() -> None:
    rows = examined("compat", ["Rating: 6", "Rating: 2", "no verdict", "Rating: 4"])
    assert not any(row.failed for row in rows)
    found = metrics_of(MMHAL, [MMHAL.counts(row) for row in rows], "compat")
    assert found["Average score"] == 3.0
    assert found["Hallucination rate"] == 50.0
    assert found["Informativeness"] == pytest.approx(100 * (3 + 2 + 0 + 1) / 3 / 4)
    assert [found[f"Average score ({kind})"] for kind in TYPES[:4]] == [6, 2, 0, 4]  # by place
    assert found["Average score (holistic)"] is None


def test_fixed_fails_what_has_no_verdict_and_goes_by_the_type() -> None:
    rows = examined("fixed", ["**Rating:** 6", None, "no verdict", "Rating: 4"])
    assert [row.failed for row in rows] == ["", "no reply", "unreadable", ""]
    found = metrics_of(MMHAL, [MMHAL.counts(row) for row in rows if not row.failed], "fixed")
    assert (found["Average score"], found["Average score (attribute)"]) == (5, 5)


def test_what_the_judge_reads() -> None:
    judge = Scripted(lambda _: "Rating: 3")
    told = prompts.load(MMHAL.stages)
    MMHAL.examine([row(7, "other")], Tools("compat", judge, prompts=told.texts))
    (request,) = judge.heard
    assert (request.system, request.temperature, request.max_tokens) == ("", 0.0, 512)
    for text in ("Dog, Ball {x}", "How many 7?", "Two.", "answer 7"):
        assert request.user.count(text) == 1


def test_the_real_questions() -> None:
    if not REAL.exists():
        pytest.skip("the published files are not here")
    items = MMHAL.items(REAL)
    assert [item.category for item in items] == list(TYPES) * 12
    rows = [Row(item, "I cannot tell.") for item in items]
    replies = iter(f"Rating: {number % 7}" for number in range(96))
    told = prompts.load(MMHAL.stages)
    MMHAL.examine(rows, Tools("compat", Scripted(lambda _: next(replies)), prompts=told.texts))
    scores = [number % 7 for number in range(96)]
    found = metrics_of(MMHAL, [MMHAL.counts(row) for row in rows], "compat")
    assert found["Average score"] == sum(scores) / 96
    assert found["Hallucination rate"] == 100 * sum(score < 3 for score in scores) / 96
    assert found["Average score (counting)"] == sum(scores[3::8]) / 12


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no mmhal-bench_answer_template\.json; python -m eval data"):
        MMHAL.items(tmp_path)
    file = tmp_path / "mmhal-bench_answer_template.json"
    file.write_text(json.dumps([{"question": "what?", "image_content": "dog"}]))
    with pytest.raises(UserError, match=r"row 0: 'image_content' must be a list of texts"):
        MMHAL.items(tmp_path)
    odd = {"question": "q", "image_content": [], "question_type": "bogus", "gt_answer": "a"}
    file.write_text(json.dumps([odd]))
    with pytest.raises(UserError, match=r"row 0: 'question_type' is 'bogus'; it can be attribute"):
        MMHAL.items(tmp_path)
    file.write_text('[{"question"')
    with pytest.raises(UserError, match="is no JSON"):
        MMHAL.items(tmp_path)


def test_what_counts_as_0_is_said() -> None:
    rows = examined("compat", ["Rating: 6", "I refuse.", "No."])
    assert MMHAL.notes(rows, Tools("compat")) == ["2 replies without a rating count as 0, as published"]


def test_the_original_s_own_file_of_answers(tmp_path: Path) -> None:
    """The template with its answers filled in; questions repeat, pictures do not."""
    rows = [
        {
            "question_type": TYPES[n % 8],
            "image_id": f"hash{n}",
            "image_src": f"https://host/{n}.jpg",
            "image_content": [],
            "question": "what?",
            "gt_answer": "a",
            "model_answer": f"answer {n}",
        }
        for n in range(10)
    ]
    (tmp_path / "mmhal-bench_answer_template.json").write_text(json.dumps(rows))
    items = MMHAL.items(tmp_path)
    for keys in (("image_id", "image_src"), ("image_id",), ("image_src",)):
        kept = [{key: row[key] for key in (*keys, "question", "model_answer")} for row in reversed(rows)]
        (tmp_path / "answers.json").write_text(json.dumps(kept))
        assert [row.answer for row in answers.read(tmp_path / "answers.json", items).rows] == [
            f"answer {n}" for n in range(10)
        ]
