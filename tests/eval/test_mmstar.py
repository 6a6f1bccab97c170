"""MMStar: both readings of an answer, shares of published and of present numbers, JSON lines and Parquet."""

import base64
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from eval.benchmark import Item, Row, Tools
from eval.mmstar import CATEGORIES, MMSTAR, PARSERS, SUBS
from eval.mmstar_options import options_of
from eval.scores import metrics_of
from rlaifv_jax.errors import UserError

QUESTION = "What is it?\nOptions: A: a cat, B: a dog, C: a hot dog, D: two birds, perhaps"


@pytest.mark.parametrize(
    ("answer", "published", "mended"),
    [
        ("B", "B", "B"),
        (" b ", "B", "B"),
        ("(b) a dog", "B", "B"),
        ("option b", "B", "B"),
        ("The answer is B", "B", "B"),
        ("B: a dog", "B", "B"),
        ("B\nbecause it barks", "B", "B"),
        ("a cat", "A", "A"),  # by accident, by the option's text
        ("a dog", "A", "B"),
        ("Answer: B", "A", "B"),
        ("Answer: A", "A", "A"),
        ("the answer is: A", "none", "A"),
        ("**D**", "none", "D"),
        ("Correct", "C", None),
        ("The correct answer is (C).", "none", "C"),
        ("It must be option D.", "none", "D"),
        ("I first thought the answer is A, but the answer is B.", "none", "B"),
        ("It shows a hot dog.", "none", "C"),  # which holds the text of B as well
        ("It is A or B.", "none", None),
        ("A dog is barking at two cats.", "A", "B"),
        ("B is right", "B", "B"),
        ("the answer is a cat", "A", "A"),
        ("the answer is a dog", "A", "B"),
        ("(", "none", None),
        ("", "none", None),
        ("I cannot tell", "none", None),
        ("$\\boxed{C}$", "none", "C"),
    ],
)
def test_answers(answer, published, mended):
    assert PARSERS["compat"](answer, QUESTION) == published
    assert PARSERS["fixed"](answer, QUESTION) == mended


@given(st.text(), st.text())
def test_any_text_is_read(answer, question):
    assert PARSERS["compat"](answer, question) in (*"ABCD", "none")
    assert PARSERS["fixed"](answer, question) in (*"ABCD", None)


def test_options_are_read_off_the_question():
    assert options_of(QUESTION) == {"A": "a cat", "B": "a dog", "C": "a hot dog", "D": "two birds, perhaps"}
    assert options_of("Which?\n(A) one\n(B) two") == {"A": "one", "B": "two"}
    assert options_of("Which is it, B: or C: not?") == {}
    assert options_of("How many?") == {}


def row(place, answer, right="A"):
    category, sub = SUBS[place]
    return Row(Item("0", QUESTION, category=category, reference={"answer": right, "l2_category": sub}), answer)


def scored(rows, mode):
    MMSTAR.examine(rows, Tools(mode))
    return metrics_of(MMSTAR, [MMSTAR.counts(one) for one in rows if not one.failed], mode)


def test_shares_of_what_is_published_and_of_what_is_there():
    rows = [row(0, "A"), row(0, "B"), row(1, "A"), row(4, "**A**"), row(4, "what?")]
    published, mended = scored(rows, "compat"), scored([row(0, "A"), row(0, "B"), row(1, "A"), *rows[3:]], "fixed")
    (first, firsts), (second, seconds) = list(CATEGORIES.items())[:2]
    assert published["final score"] == pytest.approx(100 * 2 / 1500)
    assert published[first] == pytest.approx(100 * 2 / 250)
    assert published[f"{first}({firsts[0]})"] == mended[f"{first}({firsts[0]})"] == 50
    assert published[f"{second}({seconds[1]})"] == 0
    assert published[f"{second}({seconds[0]})"] is None
    assert mended["final score"] == 75
    assert mended[second] == 100
    assert published.keys() == mended.keys() == MMSTAR.higher_is_better.keys()
    assert rows[4].failed
    assert rows[0].values["right"] is True


def record(number, **more):
    category, sub = SUBS[number % len(SUBS)]
    return {"index": number, "question": QUESTION, "answer": "B", "category": category, "l2_category": sub} | more


@pytest.mark.parametrize("image", [b"jpeg", {"bytes": b"jpeg", "path": None}])
def test_parquet_with_pictures(tmp_path, image):
    rows = [record(number, image=image) for number in range(20)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "mmstar.parquet")
    items = MMSTAR.items(tmp_path)
    assert len(items) == 20
    assert base64.b64decode(items[0].image) == b"jpeg"
    assert items[19].id == "19"
    assert (items[18].category, items[18].reference) == (SUBS[0][0], {"answer": "B", "l2_category": SUBS[0][1]})


def test_json_lines(tmp_path):
    file = tmp_path / "mmstar.jsonl"
    (tmp_path / "0.jpg").write_bytes(b"")
    long = base64.b64encode(bytes(200)).decode()
    rows = [record(0, image="0.jpg"), record(1, image=long), record(2, image="gone.jpg"), record(3)]
    file.write_text("\n".join(map(json.dumps, rows)))
    assert [item.image for item in MMSTAR.items(file)] == ["0.jpg", long, "", ""]


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"answer": "E"}, "'answer' is 'E'"),
        ({"category": "maths"}, "is no category of MMStar"),
        ({"l2_category": SUBS[4][1]}, "is no category of MMStar"),
        ({"question": 3}, "'question' is int"),
        ({"image": 3}, "'image' is int"),
        ({"index": 1}, "index 1 stands there twice"),
    ],
)
def test_bad_rows(tmp_path, more, match):
    (tmp_path / "mmstar.jsonl").write_text(json.dumps(record(1)) + "\n" + json.dumps(record(0, **more)))
    with pytest.raises(UserError, match=match):
        MMSTAR.items(tmp_path)


def test_no_file_and_no_parquet(tmp_path):
    with pytest.raises(UserError, match=r"mmstar\.parquet"):
        MMSTAR.items(tmp_path)
    (tmp_path / "mmstar.parquet").write_text("no")
    with pytest.raises(UserError, match="cannot be read as Parquet"):
        MMSTAR.items(tmp_path)
