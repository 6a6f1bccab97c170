"""POPE: is there such a thing in the picture? Three times 3,000 questions, half of them with yes for an answer.

Source: Li et al. 2023 (arXiv 2305.10355). What is not there is chosen at random, among frequent things (popular), or
among those that go with what is there (adversarial). `compat` reads every answer that does not say 'No', 'no' or 'not'
in front of its first full stop as yes. `fixed` reads yes and no in the usual spellings; an answer that is neither has
failed. `F1` is the mean of the three. Percent where the original prints fractions, as papers do.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.benchmark import Benchmark, Item, Mode, Row, Sums, Tools, ratio
from eval.files import find, picture_of, read_rows, text_of
from eval.keyed import keyed
from eval.yes_no import NO, YES, yes_or_no
from rlaifv_jax.errors import UserError

SPLITS = ("random", "popular", "adversarial")
OLDER_RANDOM = 2910  # rows of the random split that LLaVA's figures were made with
SHORT = "\nAnswer the question using a single word or phrase."  # what models of LLaVA's kind are asked in addition


def answer_as_published(text: str) -> str | None:
    words = text.split(".")[0].replace(",", "").split(" ")
    return NO if {"No", "no", "not"} & set(words) else YES


PARSERS: dict[Mode, Callable[[str], str | None]] = {"compat": answer_as_published, "fixed": yes_or_no}


class Pope(Benchmark):
    name, title = "pope", "POPE"
    headline = ("F1",)
    higher_is_better: Mapping[str, bool] = {
        "F1": True,
        **{f"{name} ({split})": True for split in SPLITS for name in ("Accuracy", "Precision", "Recall", "F1")},
    }

    def items(self, data: Path) -> list[Item]:
        if data.is_file():
            raise UserError(f"{data} is one file; give the folder of coco_pope_{{{','.join(SPLITS)}}}.json")
        return [item for split in SPLITS for item in _of_split(data, split)]

    def examine(self, rows: Sequence[Row], tools: Tools) -> None:
        parse = PARSERS[tools.mode]
        for row in rows:
            said, label = parse(row.answer), row.item.reference["label"]
            if said is None:
                row.failed = "the answer is neither yes nor no"
            else:
                row.values = {"said": said, "label": label, "right": said == label}

    def counts(self, row: Row) -> dict[str, float]:
        found = (row.item.category, row.values["label"], row.values["said"])
        return {
            _cell(split, label, said): float((split, label, said) == found)
            for split in SPLITS
            for label in (YES, NO)
            for said in (YES, NO)
        }

    def metrics(self, sums: Sums, mode: Mode) -> dict[str, Any]:
        f1 = {split: _metrics(sums, split) for split in SPLITS}
        mean = sum(f1[split][f"F1 ({split})"] for split in SPLITS) / len(SPLITS)
        return {"F1": mean, **{name: value for split in SPLITS for name, value in f1[split].items()}}

    def notes(self, rows: Sequence[Row], tools: Tools) -> list[str]:
        """Which random split it is, where it is the older one."""
        size = sum(row.item.category == "random" for row in rows)
        return [f"random split: the older one of {size} rows; today's has 3000"] if size == OLDER_RANDOM else []


def _of_split(data: Path, split: str) -> list[Item]:
    file = find(data, f"coco_pope_{split}.json")
    items = []
    for key, row in keyed(read_rows(file), "question_id", file).items():
        where = f"{file}, question {key}"
        image, label = text_of(row, ("image",), where), text_of(row, ("label",), where).strip().lower()
        if label not in (YES, NO):
            raise UserError(f"{where}: 'label' is {label!r}; it can be 'yes' or 'no'")
        items.append(
            Item(
                id=f"{split}/{key}",
                question=text_of(row, ("text",), where).removesuffix(SHORT) + SHORT,
                image=picture_of(data, image),
                image_id=image,
                category=split,
                reference={"label": label},
            )
        )
    return items


def _cell(split: str, label: str, said: str) -> str:
    return f"{split}: {label}, said {said}"


def _metrics(sums: Sums, split: str) -> dict[str, Any]:
    """Yes is the positive class."""
    hits, misses = sums[_cell(split, YES, YES)], sums[_cell(split, YES, NO)]
    alarms, rests = sums[_cell(split, NO, YES)], sums[_cell(split, NO, NO)]
    asked = hits + misses + alarms + rests
    precision, recall = ratio(hits, hits + alarms), ratio(hits, hits + misses)
    return {
        f"Accuracy ({split})": 100 * ratio(hits + rests, asked),
        f"Precision ({split})": 100 * precision,
        f"Recall ({split})": 100 * recall,
        f"F1 ({split})": ratio(2 * hits, 2 * hits + alarms + misses, 100),
        f"Yes ratio ({split})": 100 * ratio(hits + alarms, asked),
    }


POPE = Pope()
