"""LLaVA-Bench, two benchmarks of that name: a judge gives points to GPT-4's answer and to a model's.

`llava_bench_coco`: 90 questions about 30 pictures of COCO, known to the judge by captions and boxes, as RLHF-V asks.
`llava_bench_wild`: 60 questions about 24 pictures from anywhere, known by a caption, as LLaVA asks. The latter is the
'LLaVA-Bench' of model cards. Source: Liu et al. 2023 (LLaVA, arXiv 2304.08485).

A metric is 100 · the model's mean points ÷ the reference's, rounded as published (means to three decimals before).
`compat`: the reply's first line is two numbers and one blank or comma, or both get -1: `llava_bench_coco` leaves such
an answer out, as RLHF-V's summary does, `llava_bench_wild` averages it in, as LLaVA's does. `fixed`: points in the
usual writings; a reply without both, from 1 to 10, is asked for again and then failed. With Tools.swap both orders are
asked and each side's points averaged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.benchmark import Benchmark, Item, Mode, Row, Sums, Tools, ratio
from eval.files import find, picture_of, read_rows, text_of
from eval.judge.request import Request
from eval.judging import verdicts
from eval.keyed import keyed, partner
from eval.llava_points import UNREAD, Points, points, points_as_published
from eval.prompts import CHECKER, fill
from eval.rounding import rounded
from rlaifv_jax.errors import UserError

KINDS = ("conv", "detail", "complex")
PARSERS: dict[Mode, Callable[[str], Points | None]] = {"compat": points_as_published, "fixed": points}


def captions_and_boxes(row: Mapping[str, Any], where: str) -> str:
    captions, things = row.get("captions"), row.get("instances")
    if not isinstance(captions, list) or not isinstance(things, list) or not all(isinstance(x, dict) for x in things):
        raise UserError(f"{where}: a list of texts, 'captions', and one of objects, 'instances', are needed")
    boxes = [f"{text_of(thing, ('category',), where)}: {thing.get('bbox')}" for thing in things]
    return "\n".join(map(str, captions)) + "\n\n" + "\n".join(boxes)


def caption(row: Mapping[str, Any], where: str) -> str:
    text = row.get("caption")
    return "\n".join(map(str, text)) if isinstance(text, list) else text_of(row, ("caption",), where)


def _ten_times(mean: Any) -> Any:
    return rounded(mean * 10, 1)


def _as_it_is(mean: Any) -> Any:
    return mean


@dataclass
class LlavaBench(Benchmark):
    """questions, answers, contexts: files. context: what the judge is told of a picture. prefix: of category names.
    skips: whether an answer that got -1 is left out. shown: a mean as published. max_tokens: of a reply."""

    name: str
    title: str
    questions: str
    answers: str
    contexts: str
    context: Callable[[Mapping[str, Any], str], str]
    prefix: str
    skips: bool
    shown: Callable[[Any], Any]
    max_tokens: int

    headline = ("all",)
    compares = True

    def __post_init__(self) -> None:
        self.stages: tuple[str, ...] = (self.name,)
        self.keys = ("all", *(self.prefix + kind for kind in KINDS))
        figures = [name for key in self.keys for name in (key, f"{key} model")]
        self.higher_is_better: Mapping[str, bool] = dict.fromkeys(figures, True)

    def items(self, data: Path) -> list[Item]:
        if data.is_file():
            raise UserError(f"{data} is one file; give the folder of {self.questions}, {self.answers}, {self.contexts}")
        file, answer_file, context_file = (find(data, name) for name in (self.questions, self.answers, self.contexts))
        answers = keyed(read_rows(answer_file), "question_id", answer_file)
        contexts = keyed(read_rows(context_file), "image", context_file)
        items = []
        for key, row in keyed(read_rows(file), "question_id", file).items():
            where = f"{file}, question {key}"
            image, kind = text_of(row, ("image",), where), text_of(row, ("category",), where)
            if kind not in KINDS:
                raise UserError(f"{where}: 'category' is {kind!r}; it can be {', '.join(KINDS)}")
            answer = text_of(partner(answers, key, answer_file, where), ("text",), f"{answer_file}, question {key}")
            about = partner(contexts, image, context_file, where)
            reference = {"answer": answer, "context": self.context(about, f"{context_file}, image {image}")}
            question = text_of(row, ("text",), where)
            picture, category = picture_of(data, image), self.prefix + kind
            items.append(Item(key, question, picture, image, category=category, reference=reference))
        return items

    def examine(self, rows: Sequence[Row], tools: Tools) -> None:
        orders = (False, True) if tools.swap else (False,)
        asked = [((row, swapped), self._request(row, swapped, tools)) for row in rows for swapped in orders]
        found: dict[int, dict[bool, Points]] = {id(row): {} for row in rows}
        for (row, swapped), (first, second) in verdicts(tools.judge, asked, PARSERS[tools.mode]):
            found[id(row)][swapped] = (second, first) if swapped else (first, second)
        for row in rows:
            pairs = [found[id(row)][swapped] for swapped in orders if swapped in found[id(row)]]
            if not row.failed:
                reference, model = (sum(side) / len(orders) for side in zip(*pairs, strict=True))
                left_out = self.skips and any(first == UNREAD[0] for first, _ in pairs)
                points = [list(pair) for pair in pairs]
                row.values = {"reference": reference, "model": model, "points": points, "left_out": left_out}

    def notes(self, rows: Sequence[Row], tools: Tools) -> list[str]:
        unread = sum(list(UNREAD) in row.values.get("points", ()) for row in rows)
        how = "left out" if self.skips else "counted as -1"
        return [f"{unread} replies that do not begin with two numbers are {how}, as published"] if unread else []

    def _request(self, row: Row, swapped: bool, tools: Tools) -> Request:
        reference = row.item.reference
        answers = [reference["answer"], row.answer]
        slots = {
            "context": reference["context"],
            "question": row.item.question,
            "answer_1": answers[swapped],
            "answer_2": answers[not swapped],
        }
        text = fill(tools.prompts[self.name], slots, self.name)
        return Request(self.name, CHECKER, text, 0.2, self.max_tokens)

    def counts(self, row: Row) -> dict[str, float]:
        each = {"n": 1.0, "reference": row.values["reference"], "model": row.values["model"]}
        counted = not row.values["left_out"]
        return {
            f"{key} {name}": value * (counted and key in ("all", row.item.category))
            for key in self.keys
            for name, value in each.items()
        }

    def metrics(self, sums: Sums, mode: Mode) -> dict[str, Any]:
        found = {}
        for key in self.keys:
            reference, model = (
                rounded(ratio(sums[f"{key} {side}"], sums[f"{key} n"]), 3) for side in ("reference", "model")
            )
            found[key] = rounded(ratio(model, reference) * 100, 1)
            found |= {f"{key} reference": self.shown(reference), f"{key} model": self.shown(model)}
        return found


LLAVA_BENCH_COCO = LlavaBench(
    name="llava_bench_coco",
    title="LLaVA-Bench (COCO)",
    questions="qa90_questions.jsonl",
    answers="qa90_gpt4_answer.jsonl",
    contexts="caps_boxes_coco2014_val_80.jsonl",
    context=captions_and_boxes,
    prefix="",
    skips=True,
    shown=_as_it_is,
    max_tokens=180,
)
LLAVA_BENCH_WILD = LlavaBench(
    name="llava_bench_wild",
    title="LLaVA-Bench (In-the-Wild)",
    questions="questions.jsonl",
    answers="answers_gpt4.jsonl",
    contexts="context.jsonl",
    context=caption,
    prefix="llava_bench_",
    skips=False,
    shown=_ten_times,
    max_tokens=1024,
)
