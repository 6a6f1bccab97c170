"""LLaVA-Bench: both parsers, what becomes of a reply without points, both orders, rounding, and the real files."""

import json
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.benchmark import Item, Row, Tools
from eval.judge.request import Reply, Verdict
from eval.llava_bench import LLAVA_BENCH_COCO, LLAVA_BENCH_WILD, PARSERS
from eval.prompts import load
from eval.scores import metrics_of
from rlaifv_jax.errors import UserError

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "eval"
UNREAD = (-1, -1)


class Said:
    """A judge that says what `replies` gives for a request, never twice; None: it fails."""

    def __init__(self, replies):
        self.replies, self.requests, self.settings = replies, [], {"kind": "test"}

    def in_round(self, number):
        return self

    def ask(self, asked, parse):
        for tag, request in reversed(list(asked)):
            self.requests.append(request)
            text = self.replies(request)
            reply = Reply(text or "", error="" if text else "HTTP 500")
            value = parse(text) if text else None
            yield tag, Verdict(value, (reply,), "" if value else reply.error or "no points in the reply")


@pytest.mark.parametrize(
    ("reply", "published", "mended"),
    [
        ("8 9", (8, 9), (8, 9)),
        ("8 9\nBoth are good, 10 of 10.", (8, 9), (8, 9)),
        ("8,9", (8, 9), (8, 9)),
        ("8.5 7", (8.5, 7), (8.5, 7)),
        ("8, 9", UNREAD, (8, 9)),
        ("8 9 ", UNREAD, (8, 9)),
        (" 8 9", UNREAD, (8, 9)),
        ("8  9", UNREAD, (8, 9)),
        ("8/10 9/10", UNREAD, (8, 9)),
        ("8 out of 10 and 9 out of 10", UNREAD, (8, 9)),
        ("**8 9**", UNREAD, (8, 9)),
        ("```\n8 9\n```", UNREAD, (8, 9)),
        ("Scores: 8 and 9.", UNREAD, (8, 9)),
        ("Assistant 1: 8, Assistant 2: 9", UNREAD, (8, 9)),
        ("Assistant 2: 9, Assistant 1: 8", UNREAD, (8, 9)),
        ("Assistant 1: 8/10\nAssistant 2: 9/10\n\nAssistant 1 names 3 things.", UNREAD, (8, 9)),
        ("Here is my view.\n\n7 6", UNREAD, (7, 6)),
        ("3 4\nOn reflection, I change my mind.\n8 9", (3, 4), (8, 9)),
        ("0 5", (0, 5), None),
        ("80 95", (80, 95), None),
        ("8", UNREAD, None),
        ("8 9 7", UNREAD, None),
        ("8 nine", UNREAD, None),
        ("Assistant 1 names 8 things and Assistant 2 names 9.", UNREAD, None),
        ("Assistant 1: 8", UNREAD, None),
        ("", UNREAD, None),
    ],
)
def test_points(reply, published, mended):
    assert PARSERS["compat"](reply) == published
    assert PARSERS["fixed"](reply) == mended


@given(st.text(alphabet="0123456789 ,./\nAssistant12:*"))
def test_any_reply_is_read(reply):
    assert len(PARSERS["compat"](reply)) == 2
    found = PARSERS["fixed"](reply)
    assert found is None or all(1 <= value <= 10 for value in found)


def row(benchmark, number, kind="conv", answer="ours"):
    reference = {"answer": "theirs", "context": "A dog."}
    return Row(Item(str(number), f"Question {number}?", category=benchmark.prefix + kind, reference=reference), answer)


def judged(benchmark, rows, replies, mode="compat", **more):
    judge = Said(replies)
    benchmark.examine(rows, Tools(mode, judge, prompts=load(benchmark.stages).texts, **more))
    kept = [one for one in rows if not one.failed]
    return metrics_of(benchmark, [benchmark.counts(one) for one in kept], mode), judge


def by_question(*texts):
    return lambda request: next(text for number, text in enumerate(texts) if f"Question {number}?" in request.user)


def test_ratio_of_means_rounded_as_published():
    rows = [row(LLAVA_BENCH_COCO, n, kind) for n, kind in enumerate(("conv", "conv", "detail"))]
    found, judge = judged(LLAVA_BENCH_COCO, rows, by_question("9 6", "8 7", "10 3"))
    assert (found["all reference"], found["all model"]) == (9.0, 5.333)
    assert found["all"] == 59.3
    assert found["conv"] == round(6.5 / 8.5 * 100, 1)
    assert (found["detail"], found["complex"], found["complex model"]) == (30.0, None, None)
    assert rows[0].values == {"reference": 9, "model": 6, "points": [[9, 6]], "left_out": False}
    assert {(one.temperature, one.max_tokens, one.stage) for one in judge.requests} == {(0.2, 180, "llava_bench_coco")}
    assert found.keys() >= LLAVA_BENCH_COCO.higher_is_better.keys()


def test_means_of_the_wild_are_told_ten_times_as_large():
    rows = [row(LLAVA_BENCH_WILD, n, kind) for n, kind in enumerate(("conv", "detail", "complex"))]
    found, judge = judged(LLAVA_BENCH_WILD, rows, by_question("9 6", "8 7", "10 3"))
    assert (found["all"], found["all reference"], found["all model"]) == (59.3, 90.0, 53.3)
    assert found["llava_bench_detail"] == 87.5
    assert {one.max_tokens for one in judge.requests} == {1024}


@pytest.mark.parametrize(
    ("benchmark", "mode", "failed", "expected"),
    [
        (LLAVA_BENCH_COCO, "compat", [False, False], 75.0),
        (LLAVA_BENCH_COCO, "fixed", [False, True], 75.0),
        (LLAVA_BENCH_WILD, "compat", [False, False], round(2.5 / 3.5 * 100, 1)),
        (LLAVA_BENCH_WILD, "fixed", [False, True], 75.0),
    ],
)
def test_a_reply_without_points(benchmark, mode, failed, expected):
    rows = [row(benchmark, 0), row(benchmark, 1)]
    found, _ = judged(benchmark, rows, by_question("8 6", "Both are fine."), mode)
    assert [bool(one.failed) for one in rows] == failed
    assert found["all"] == expected
    told = {"compat": [f"1 replies that do not begin with two numbers are {HOW[benchmark.name]}, as published"]}
    assert benchmark.notes(rows, Tools(mode)) == told.get(mode, [])
    assert [one.replies[0].text for one in rows] == ["8 6", "Both are fine."]


@pytest.mark.parametrize("mode", ["compat", "fixed"])
@pytest.mark.parametrize("benchmark", [LLAVA_BENCH_COCO, LLAVA_BENCH_WILD])
def test_a_judge_that_fails(benchmark, mode):
    rows = [row(benchmark, 0), row(benchmark, 1)]
    found, _ = judged(benchmark, rows, by_question("8 6", None), mode)
    assert (found["all"], rows[1].failed, rows[1].values) == (75.0, "HTTP 500", {})


HOW = {"llava_bench_coco": "left out", "llava_bench_wild": "counted as -1"}


def in_order(request):
    """The reference gets 9 in front and 7 behind, the model 8 in front and 5 behind."""
    return "9 5" if request.user.index("theirs") < request.user.index("ours") else "8 7"


def test_both_orders_are_averaged():
    rows = [row(LLAVA_BENCH_COCO, 0)]
    found, judge = judged(LLAVA_BENCH_COCO, rows, in_order, "fixed", swap=True)
    assert len(judge.requests) == 2
    assert rows[0].values == {"reference": 8, "model": 6.5, "points": [[9, 5], [7, 8]], "left_out": False}
    assert found["all"] == 81.2  # 81.25, which is exact and goes to the even digit


def test_one_order_without_points_is_none() -> None:
    for mode, failed in (("compat", False), ("fixed", True)):
        rows = [row(LLAVA_BENCH_COCO, 0)]
        found, _ = judged(LLAVA_BENCH_COCO, rows, lambda r: "9 5" if in_order(r) == "9 5" else "?", mode, swap=True)
        assert bool(rows[0].failed) == failed
        assert found.get("all") is None


def test_no_judge():
    tools = Tools("fixed", prompts=load(LLAVA_BENCH_COCO.stages).texts)
    with pytest.raises(UserError, match="a judge is needed"):
        LLAVA_BENCH_COCO.examine([row(LLAVA_BENCH_COCO, 0)], tools)


def test_the_official_template_has_bare_slots():
    prompts = {"llava_bench_wild": "[Context]\n{}\n[Question]\n{}\n[1]\n{}\n[2]\n{}\n{kept}"}
    judge = Said(lambda request: "8 9")
    LLAVA_BENCH_WILD.examine([row(LLAVA_BENCH_WILD, 0)], Tools("compat", judge, prompts=prompts))
    assert judge.requests[0].user == "[Context]\nA dog.\n[Question]\nQuestion 0?\n[1]\ntheirs\n[2]\nours\n{kept}"


def write(folder, **more):
    content = {
        "questions.jsonl": [{"question_id": 4, "image": "1.jpg", "text": "What?", "category": "conv"}],
        "answers_gpt4.jsonl": [{"question_id": 3, "text": "No."}, {"question_id": 4, "text": "A dog."}],
        "context.jsonl": [{"id": "1", "image": "1.jpg", "caption": "A dog on grass."}],
    }
    for name, rows in (content | more).items():
        (folder / name).write_text("\n".join(map(json.dumps, rows)))


@pytest.mark.parametrize(("caption", "context"), [("A dog.", "A dog."), (["A dog.", "Grass."], "A dog.\nGrass.")])
def test_files_are_paired_by_id_and_picture(tmp_path, caption, context):
    write(tmp_path, **{"context.jsonl": [{"image": "1.jpg", "caption": caption}]})
    (item,) = LLAVA_BENCH_WILD.items(tmp_path)
    assert (item.id, item.category, item.image_id) == ("4", "llava_bench_conv", "1.jpg")
    assert item.reference == {"answer": "A dog.", "context": context}


@pytest.mark.parametrize(
    ("name", "rows", "match"),
    [
        ("answers_gpt4.jsonl", [{"question_id": 3, "text": "No."}], "has no row 4"),
        ("answers_gpt4.jsonl", [{"question_id": 4}], "question 4: has no 'text'"),
        ("context.jsonl", [{"image": "2.jpg", "caption": ""}], r"has no row 1\.jpg"),
        ("questions.jsonl", [{"question_id": 4, "image": "1.jpg", "text": "?", "category": "x"}], "'category' is 'x'"),
        ("questions.jsonl", [{"image": "1.jpg"}], "has no 'question_id'"),
    ],
)
def test_bad_files(tmp_path, name, rows, match):
    write(tmp_path, **{name: rows})
    with pytest.raises(UserError, match=match):
        LLAVA_BENCH_WILD.items(tmp_path)


def test_files_that_are_missing(tmp_path):
    with pytest.raises(UserError, match=r"qa90_questions\.jsonl"):
        LLAVA_BENCH_COCO.items(tmp_path)


@pytest.mark.skipif(not DATA.exists(), reason="the shared files are not here")
def test_the_real_files_of_coco():
    items = LLAVA_BENCH_COCO.items(DATA)
    assert len(items) == 90
    kinds = defaultdict(list)
    for item in items:
        kinds[item.category].append(item)
    assert {kind: len(found) for kind, found in kinds.items()} == {"conv": 30, "detail": 30, "complex": 30}
    context = items[0].reference["context"].split("\n")
    assert context[5] == ""
    assert context[6].startswith("suitcase: [0.")
    rows = [Row(item, item.reference["answer"] if item.category == "detail" else "?") for item in items]
    found, judge = judged(LLAVA_BENCH_COCO, rows, lambda r: "8 8" if r.user.count(rows_answer(r)) > 1 else "8 2")
    assert len(judge.requests) == 90
    assert (found["detail"], found["conv"], found["complex"], found["all"]) == (100.0, 25.0, 25.0, 50.0)


def rows_answer(request):
    """What stands between the marks of the first answer."""
    return request.user.split("answer of Assistant 1]\n")[1].split("\n[End")[0]
