"""Object HalBench from questions to metrics: with a judge, without, and on the small world."""

import json
import time

import numpy as np
import pytest

from eval import prompts, scores
from eval.benchmark import Item, Row, Tools
from eval.judge.request import Reply, Verdict
from eval.object_halbench import FILE, OBJECT_HALBENCH
from eval.objects import index, making, vocabulary
from eval.objects.extractors import make_extractor
from eval.objects.small_world import write_small_world
from rlaifv_jax.errors import UserError
from rlaifv_jax.shapes.bias import biased_claims
from rlaifv_jax.shapes.captions import caption
from rlaifv_jax.shapes.measure import measure

PROMPTS = prompts.load(OBJECT_HALBENCH.stages).texts


class Canned:
    """A judge who replies by the answer it is shown."""

    def __init__(self, replies):
        self.settings = {"kind": "canned"}
        self.replies, self.asked = replies, []

    def in_round(self, number):
        return self

    def ask(self, asked, parse):
        for tag, request in asked:
            self.asked.append(request)
            text = next(reply for answer, reply in self.replies.items() if answer in request.system)
            value = parse(text)
            yield tag, Verdict(value, (Reply(text),), "" if value is not None else "no list")


def items(folder, questions=None, known=None):
    """Images 42 (dog, couch), 7 (nothing) unless said otherwise, and their questions."""
    folder.mkdir(parents=True, exist_ok=True)
    questions = questions or [{"image_id": number, "question": "What is there?", "image": "aGk="} for number in (42, 7)]
    (folder / FILE).write_text("".join(json.dumps(row) + "\n" for row in questions))
    known = known or {"42": ["couch", "dog"], "7": []}
    index.write(index.ObjectIndex("coco", "lexicon-1", known, known, vocabulary.load().sha256), folder / index.FILE)
    return OBJECT_HALBENCH.items(folder)


def examined(items, answers, extractor="lexicon", mode="compat", judge=None):
    rows = [Row(item, answer) for item, answer in zip(items, answers, strict=True)]
    OBJECT_HALBENCH.examine(rows, Tools(mode, judge, make_extractor(extractor), PROMPTS))
    return rows


def metrics(rows, mode="compat"):
    counted = [OBJECT_HALBENCH.counts(row) for row in rows if not row.failed]
    return scores.metrics_of(OBJECT_HALBENCH, counted, mode)


def test_the_questions(tmp_path):
    first, second = items(tmp_path)
    assert (first.id, first.image_id, first.question, first.image) == ("42", "42", "What is there?", "aGk=")
    assert first.reference["objects"] == {"compat": ["couch", "dog"], "fixed": ["couch", "dog"]}
    assert second.reference["index"]["extractor"] == "lexicon-1"


def test_questions_in_a_file_of_another_name(tmp_path):
    items(tmp_path)
    (tmp_path / FILE).rename(tmp_path / "mine.jsonl")
    (tmp_path / "answers.jsonl").write_text('{"question": "?", "image_id": 1, "answer": "x"}\n')
    assert len(OBJECT_HALBENCH.items(tmp_path)) == 2
    assert len(OBJECT_HALBENCH.items(tmp_path / "mine.jsonl")) == 2
    (tmp_path / "again.jsonl").write_text((tmp_path / "mine.jsonl").read_text())
    with pytest.raises(UserError, match=r"again\.jsonl, mine\.jsonl"):
        OBJECT_HALBENCH.items(tmp_path)


def test_a_picture_with_two_questions_goes_by_org_idx(tmp_path):
    twice = [{"image_id": 42, "question": "?", "org_idx": number} for number in (8, 9)]
    assert [item.id for item in items(tmp_path, twice)] == ["8", "9"]
    with pytest.raises(UserError, match="image 42 is there twice"):
        items(tmp_path, [{"image_id": 42, "question": "?"}] * 2)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"image_id": 43, "question": "?"}, "43 is not in object_index.json; build it with"),
        ({"question": "?"}, "no image_id"),
        ({"image_id": 42}, "question"),
        ({"image_id": 42, "question": "?", "image": 3}, "the image is int"),
    ],
)
def test_questions_that_are_not_as_they_should_be(tmp_path, row, fault):
    with pytest.raises(UserError, match=fault):
        items(tmp_path, [row])


def test_no_questions_and_no_index(tmp_path):
    with pytest.raises(UserError, match="has no obj_halbench"):
        OBJECT_HALBENCH.items(tmp_path)
    items(tmp_path)
    (tmp_path / index.FILE).unlink()
    with pytest.raises(UserError, match="build it with"):
        OBJECT_HALBENCH.items(tmp_path)


def test_without_a_judge_the_answers_words_count(tmp_path):
    rows = examined(items(tmp_path), ["A dog, a Cat and a dog  sit on a couch.", "Grass."])
    assert rows[0].values == {
        "mentions": [["dog", "dog"], ["cat", "cat"], ["dog", "dog"], ["couch", "couch"]],
        "hallucinated": [["cat", "cat"]],
        "objects": 2,
        "found": 2,
        "words": 12,  # one of them is empty, between two blanks
    }
    assert rows[0].marked == ["Cat"]
    assert rows[1].values["mentions"] == []
    found = metrics(rows)
    assert found["CHAIRs"] == 1 / 2
    assert found["CHAIRs_refine"] == 1
    assert found["CHAIRi"] == 1 / 4
    assert found["obj_rec"] == 1
    assert found["avg_word_len"] == found["Average Length"] == 6.5
    assert (found["correct_rate"], found["object_correct_rate"]) == (0, 3 / 4)
    assert (found["sentence_num"], found["coco_sentence_num"]) == (2, 1)
    assert (found["coco_word_count"], found["gt_word_count"]) == (2, 2)
    assert (found["COCO Sent Number"], found["COCO Word Number"], found["GT Word Number"]) == (1, 2, 2)
    assert (found["Response Hall"], found["Object Hall"]) == (100, 25)
    assert (found["Response Correct"], found["Object Correct"], found["Object Recall"]) == (0, 75, 100)


LONG, OTHER = "There are dogs, cats and puppies here.", "Something else is in this one."


def test_a_judge_lists_phrases(tmp_path):
    judge = Canned({LONG: '["dogs", "cat", "dog", "puppy", "hot dog bun"]', OTHER: "[]"})
    rows = examined(items(tmp_path), [LONG, OTHER], judge=judge)
    assert rows[0].values["mentions"] == [["dog", "dog"], ["cat", "cat"], ["puppy", "dog"], ["hot dog", "hot dog"]]
    assert rows[0].values["hallucinated"] == [["cat", "cat"], ["hot dog", "hot dog"]]
    assert rows[0].values["found"] == 1
    assert rows[0].marked == ["cats"]  # "hot dog" does not stand there
    assert rows[0].replies[0].text.startswith('["dogs"')
    assert rows[1].values["mentions"] == []
    request = judge.asked[0]
    assert (request.stage, request.user, request.temperature, request.max_tokens) == ("object_halbench", "", 0.2, 512)
    assert "What is there?" in request.system
    assert not any(slot in request.system for slot in ("{question}", "{answer}"))


def test_answers_of_three_words_are_not_sent(tmp_path):
    judge = Canned({"A big dog there": '["dog"]'})
    rows = examined(items(tmp_path), ["A  big\ndog", "A big dog there"], judge=judge)
    assert len(judge.asked) == 1
    assert (rows[0].values["mentions"], rows[0].replies) == ([], [])
    assert rows[1].values["hallucinated"] == [["dog", "dog"]]


@pytest.mark.parametrize(("mode", "failed"), [("compat", True), ("fixed", False)])
def test_a_reply_that_the_mode_cannot_read_fails_its_answer_alone(tmp_path, mode, failed):
    judge = Canned({LONG: "Listed: ['water bottle', 'Dog']", OTHER: '["dog"]'})
    rows = examined(items(tmp_path), [LONG, OTHER], mode=mode, judge=judge)
    assert bool(rows[0].failed) == failed
    assert not rows[1].failed
    assert metrics(rows, mode)["sentence_num"] == 2 - failed
    if not failed:
        assert rows[0].values["mentions"] == [["bottle", "bottle"], ["dog", "dog"]]


def test_each_mode_has_its_own_truth(tmp_path):
    both = index.ObjectIndex("coco", "lexicon-1", {"42": []}, {"42": ["cell phone"]}, vocabulary.load().sha256)
    items(tmp_path, [{"image_id": 42, "question": "?"}], {"42": []})
    index.write(both, tmp_path / index.FILE)
    (item,) = OBJECT_HALBENCH.items(tmp_path)
    for mode, wrong in (("compat", 1), ("fixed", 0)):
        (row,) = examined([item], ["a phone"], mode=mode)
        assert len(row.values["hallucinated"]) == wrong


@pytest.mark.parametrize("mode", ["compat", "fixed"])
def test_nothing_at_all_is_not_a_number(tmp_path, mode):
    rows = examined(items(tmp_path)[1:], ["Nothing of interest is here."], mode=mode)
    counted = OBJECT_HALBENCH.counts(rows[0])
    found = OBJECT_HALBENCH.metrics(counted, mode)
    assert found["CHAIRs"] == 0
    for name in ("CHAIRs_refine", "CHAIRi", "obj_rec", "Response Hall", "Object Correct", "Object Recall"):
        assert np.isnan(found[name])
    nobody = OBJECT_HALBENCH.metrics(dict.fromkeys(counted, 0.0), mode)
    assert np.isnan(nobody["CHAIRs"])
    assert np.isnan(nobody["Average Length"])


def test_metrics_of_many_draws_are_those_of_each(tmp_path):
    rows = examined(items(tmp_path), ["A dog and a zebra.", "A cat."])
    counted = [OBJECT_HALBENCH.counts(row) for row in rows]
    draws = {name: np.array([one[name] + other[name] for one in counted for other in counted]) for name in counted[0]}
    found = OBJECT_HALBENCH.metrics(draws, "compat")
    assert found["Object Hall"].tolist() == [50.0, pytest.approx(200 / 3), pytest.approx(200 / 3), 100.0]
    assert all(np.shape(value) == (4,) for value in found.values())
    assert {*OBJECT_HALBENCH.headline, *OBJECT_HALBENCH.higher_is_better} <= found.keys()


def small_world(folder, number=40):
    examples = making.scenes(number)
    write_small_world(examples, folder)
    return examples


def texts(examples, kind):
    rng = np.random.default_rng(0)
    if kind == "true":
        return [caption(example.scene) for example in examples]
    if kind == "biased":
        return [caption(biased_claims(example.scene, rng)) for example in examples]
    twice = [caption(list(example.scene)[:1]) + " " + caption(example.scene) for example in examples]
    return [f"{text} a dog . there is a small red" if n % 3 else text.upper() for n, text in enumerate(twice)]


@pytest.mark.parametrize("mode", ["compat", "fixed"])
@pytest.mark.parametrize("kind", ["true", "biased", "malformed"])
def test_the_small_world_is_measured_as_it_measures_itself(tmp_path, kind, mode):
    examples = small_world(tmp_path)
    answers = texts(examples, kind)
    found = metrics(examined(OBJECT_HALBENCH.items(tmp_path), answers, "shapes", mode), mode)
    own = measure([example.scene for example in examples], answers)
    assert found["CHAIRs"] == own.response_hallucination
    assert found["CHAIRi"] == own.mention_hallucination
    assert found["obj_rec"] == own.recall
    assert found["Response Hall"] == 100 * own.response_hallucination  # every answer claims something
    assert (own.response_hallucination > 0) == (kind != "true")


def test_the_small_world_marks_false_sentences(tmp_path):
    examples = small_world(tmp_path, 1)
    (row,) = examined(OBJECT_HALBENCH.items(tmp_path), [caption(examples[0].scene) + " A unicorn ."], "shapes")
    assert row.marked == ["A unicorn"]


def test_extractor_and_index_must_be_of_one_world(tmp_path):
    small_world(tmp_path / "shapes", 1)
    shapes, coco = OBJECT_HALBENCH.items(tmp_path / "shapes"), items(tmp_path / "coco")
    with pytest.raises(UserError, match="is of shapes-1"):
        examined(shapes, ["x"], "lexicon")
    with pytest.raises(UserError, match="is of lexicon-1"):
        examined(coco, ["x", "y"], "shapes")
    with pytest.raises(UserError, match="leave the judge away"):
        examined(shapes, ["x"], "shapes", judge=Canned({}))
    with pytest.raises(UserError, match="needs an extractor"):
        OBJECT_HALBENCH.examine([], Tools("compat"))


def test_making_writes_what_the_benchmark_reads(tmp_path):
    making.make(tmp_path, None, 3, "lexicon")
    assert len(OBJECT_HALBENCH.items(tmp_path / "object_halbench")) == 3
    making.make(tmp_path, None, 4, "lexicon")
    assert len(OBJECT_HALBENCH.items(tmp_path / "object_halbench")) == 4
    items(tmp_path / "coco")
    with pytest.raises(UserError, match="holds data of COCO"):
        making.make(tmp_path / "coco", None, 3, "lexicon")
    with pytest.raises(UserError, match="either --coco"):
        making.make(tmp_path, None, 0, "lexicon")


def test_300_answers_without_a_judge_take_no_time():
    objects = {"compat": ["dog"], "fixed": ["dog"]}
    reference = {"objects": objects, "index": {"world": "coco", "extractor": "lexicon-1"}}
    words = ["man", "dogs", "wine", "glasses", "wooden", "tables", "near", "the", "kitchen", "sitting", "and", "trees"]
    rng = np.random.default_rng(0)
    questions = [Item(str(n), "?", reference=reference) for n in range(300)]
    started = time.perf_counter()
    for mode in ("compat", "fixed"):
        rows = examined(questions, [" ".join(rng.choice(words, 100)) for _ in questions], mode=mode)
        assert all(row.values["mentions"] for row in rows)
    assert time.perf_counter() - started < 10  # both modes; a second or so
