"""Answers find the questions they belong to, whoever wrote them."""

import json
from pathlib import Path
from typing import Any

import pytest

from eval import answers
from eval.benchmark import Item
from rlaifv_jax.errors import UserError

ITEMS = [
    Item("a", "what?", image_id="1.jpg"),
    Item("b", "what?", image_id="2.jpg"),
    Item("c", "why?", image_id="2.jpg", also=("second",)),
]


def read(tmp_path: Path, records: list[dict[str, Any]], *, array: bool = False) -> list[tuple[str, str]]:
    file = tmp_path / "answers.jsonl"
    file.write_text(json.dumps(records) if array else "\n".join(json.dumps(record) for record in records) + "\n")
    return [(row.answer, row.failed) for row in answers.read(file, ITEMS).rows]


@pytest.mark.parametrize(
    "keys",
    [
        [{"ds_question_id": "a"}, {"ds_question_id": "b"}, {"ds_question_id": "c"}],
        [{"id": "a", "question_id": 9}, {"id": "b", "question_id": 9}, {"id": "c", "question_id": 9}],
        [
            {"prompt": "<image>\nwhat?", "image_id": "1.jpg"},
            {"prompt": "what?", "image_id": "2.jpg"},
            {"question": "why?", "image_url": "2.jpg"},
        ],
        [{"question_id": 0, "prompt": "what?"}, {"question_id": 1}, {"question_id": 2, "prompt": "why?"}],
        # An id that contradicts what the answer says it is about is none of ours.
        [
            {"id": "c", "question": "what?", "image": "1.jpg"},
            {"id": "a", "question": "what?", "image": "2.jpg"},
            {"id": "b", "question": "why?", "image": "second"},
        ],
        [{"ds_question_id": "a", "raw_question": "what? Be short."}, {"ds_question_id": "b"}, {"ds_question_id": "c"}],
    ],
)
@pytest.mark.parametrize("array", [False, True])
def test_keys(tmp_path: Path, keys: list[dict[str, Any]], array: bool) -> None:
    records = [{**key, "text": f"Assistant: {place} "} for place, key in enumerate(keys)]
    assert read(tmp_path, records[::-1], array=array) == [("0", ""), ("1", ""), ("2", "")]


def test_what_is_missing_has_failed(tmp_path: Path) -> None:
    records = [{"ds_question_id": "c", "answer": "so"}, {"ds_question_id": "a", "answer": "", "error": "too_long"}]
    assert read(tmp_path, records) == [("", "not answered: too_long"), ("", "no answer"), ("so", "")]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([], "holds no answers"),
        ([{"ds_question_id": "a", "text": "x"}] * 2, "row 1: a second answer to question a"),
        ([{"ds_question_id": "a", "text": "x"}, {"ds_question_id": "z", "text": "x"}], "row 1: belongs to no question"),
        ([{"question_id": 0, "prompt": "else?", "text": "x"}], "row 0: belongs to no question"),
        ([{"question_id": 3, "text": "x"}], "row 0: belongs to no question"),
        ([{"ds_question_id": "a"}], "row 0: has no answer; one of text, answer"),
        ([{"id": "a", "question": "another?", "text": "x"}], "row 0: belongs to no question"),
        ([{"id": "a", "image": "2.jpg", "text": "x"}], "row 0: belongs to no question"),
        ([{"id": True, "text": "x"}], "row 0: belongs to no question"),
        ([{"ds_question_id": "a", "text": 5}], "row 0: has no answer"),
    ],
)
def test_bad_answers(tmp_path: Path, records: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path, records)


def test_half_a_surrogate_is_replaced(tmp_path: Path) -> None:
    assert read(tmp_path, [{"id": n, "text": "so \ud800"} for n in "abc"])[0] == ("so \ufffd", "")
