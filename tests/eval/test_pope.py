"""POPE: both parsers, the confusion table of each split, and what a file must hold."""

import json

import numpy as np
import pytest

from eval.benchmark import Item, Row, Tools
from eval.pope import PARSERS, POPE, SHORT, SPLITS
from eval.scores import metrics_of
from rlaifv_jax.errors import UserError


@pytest.mark.parametrize(
    ("text", "published", "mended"),
    [
        ("Yes", "yes", "yes"),
        ("No", "no", "no"),
        ("no", "no", "no"),
        ("No, there is not.", "no", "no"),
        ("There is not a dog. Yes", "no", "no"),
        ("NO", "yes", "no"),
        ("Nope", "yes", "no"),
        ("There isn't a dog.", "yes", "no"),
        ("No\n", "yes", "no"),
        ("Yes. No", "yes", "yes"),
        ("Yes, no doubt", "no", "yes"),
        ("I cannot tell", "yes", None),
        ("", "yes", None),
    ],
)
def test_answers(text, published, mended):
    assert PARSERS["compat"](text) == published
    assert PARSERS["fixed"](text) == mended


def row(split, label, answer):
    return Row(Item(f"{split}/{label}{answer}", "?", category=split, reference={"label": label}), answer)


def scored(rows, mode):
    POPE.examine(rows, Tools(mode))
    return metrics_of(POPE, [POPE.counts(one) for one in rows if not one.failed], mode)


def test_metrics_of_a_split_and_the_mean():
    rows = [row("random", label, answer) for label, answer in [("yes", "Yes")] * 6 + [("yes", "No")] * 2]
    rows += [row("random", "no", "No") for _ in range(7)] + [row("random", "no", "yes")]
    rows += [row(split, label, label) for split in SPLITS[1:] for label in ("yes", "no")]
    found = scored(rows, "fixed")
    assert found["Accuracy (random)"] == pytest.approx(100 * 13 / 16)
    assert found["Precision (random)"] == pytest.approx(100 * 6 / 7)
    assert found["Recall (random)"] == 75
    assert found["F1 (random)"] == pytest.approx(100 * 12 / 15)
    assert found["Yes ratio (random)"] == pytest.approx(100 * 7 / 16)
    assert found["F1"] == pytest.approx((80 + 100 + 100) / 3)
    assert found.keys() >= POPE.higher_is_better.keys()
    assert rows[0].values == {"said": "yes", "label": "yes", "right": True}


def test_what_cannot_be_read_is_yes_as_published_and_failed_in_fixed():
    for mode, failed, ratio in (("compat", 0, 100.0), ("fixed", 1, None)):
        rows = [row("random", "no", "I cannot tell"), row("popular", "yes", "Yes")]
        assert scored(rows, mode)["Yes ratio (random)"] == ratio
        assert sum(bool(one.failed) for one in rows) == failed


@pytest.mark.parametrize("mode", ["compat", "fixed"])
def test_nothing_positive_is_no_number(mode):
    found = scored([row(split, "no", "No") for split in SPLITS], mode)
    assert found["Accuracy (random)"] == 100
    assert found["Precision (random)"] is found["Recall (random)"] is found["F1 (random)"] is found["F1"] is None


def test_metrics_of_arrays_are_those_of_each():
    rows = [row(split, label, said) for split in SPLITS for label in ("yes", "no") for said in ("Yes", "No", "No")]
    POPE.examine(rows, Tools("compat"))
    one = {name: sum(POPE.counts(r)[name] for r in rows) for name in POPE.counts(rows[0])}
    many = POPE.metrics({name: np.array([value, 2 * value]) for name, value in one.items()}, "compat")
    for name, value in POPE.metrics(one, "compat").items():
        np.testing.assert_array_equal(many[name], [value, value])


def write(folder, split, rows):
    (folder / f"coco_pope_{split}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))


def question(number, **more):
    row = {"question_id": number, "image": "COCO_1.jpg", "text": "Is there a dog in the image?", "label": "yes"}
    return row | more


def test_files_of_json_lines(tmp_path):
    for split in SPLITS:
        write(tmp_path, split, [question(1), question(2, label="no")])
    (tmp_path / "images").mkdir()
    (tmp_path / "images/COCO_1.jpg").write_bytes(b"")
    items = POPE.items(tmp_path)
    assert [item.id for item in items] == [f"{split}/{n}" for split in SPLITS for n in (1, 2)]
    assert items[0].question == "Is there a dog in the image?" + SHORT
    assert (items[1].category, items[1].image, items[1].reference) == ("random", "images/COCO_1.jpg", {"label": "no"})


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([question(1), question(1)], "question_id 1 stands there twice"),
        ([question(1, label="maybe")], "'label' is 'maybe'"),
        ([{"image": "a", "text": "b", "label": "no"}], "row 0: has no 'question_id'"),
        ([question(1, text=None)], "question 1: has no 'text'"),
    ],
)
def test_bad_files(tmp_path, rows, match):
    for split in SPLITS:
        write(tmp_path, split, rows if split == "popular" else [question(1)])
    with pytest.raises(UserError, match=match) as error:
        POPE.items(tmp_path)
    assert "coco_pope_popular" in str(error.value)


def test_a_split_that_is_missing(tmp_path):
    write(tmp_path, "random", [question(1)])
    with pytest.raises(UserError, match="coco_pope_popular"):
        POPE.items(tmp_path)
    with pytest.raises(UserError, match="give the folder"):
        POPE.items(tmp_path / "coco_pope_random.json")


def test_the_older_random_split_is_noted():
    tools = Tools("compat")
    assert POPE.notes([row("random", "no", "No")] * 3000, tools) == []
    assert "2910" in POPE.notes([row("random", "no", "No")] * 2910, tools)[0]
