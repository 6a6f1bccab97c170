"""MMHal-Bench: 96 questions that tempt a model to make things up, rated from 0 to 6 by a judge.

Source: Sun et al. 2023 (LLaVA-RLHF, arXiv 2309.14525), evaluated as RLAIF-V does (eval/eval_gpt_mmhal.py).
`compat`: a reply counts as N if 'rating: N' stands in it for exactly one N, else as 0, a hallucination; types go by
the question's place. `fixed`: the last rating in any usual writing; a reply without one is asked for again and then
failed; types go by the question's own.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.benchmark import Benchmark, Item, Mode, Row, Sums, Tools, ratio
from eval.files import find, picture_of, read_rows, text_of
from eval.judge.request import Request
from eval.judging import judged
from eval.prompts import fill
from rlaifv_jax.errors import UserError

FILE = "mmhal-bench_answer_template.json"
TYPES = ("attribute", "adversarial", "comparison", "counting", "relation", "environment", "holistic", "other")
HALLUCINATED_BELOW = 3
_RATING = re.compile(r"rating\W{0,12}?(\d+(?:\.\d+)?)", re.IGNORECASE)


def rating_as_published(reply: str) -> int | None:
    found = [score for score in range(7) if f"rating: {score}" in reply.lower()]
    return found[0] if len(found) == 1 else 0


def rating(reply: str) -> int | None:
    """The last rating that a reply gives, None without a whole one from 0 to 6."""
    found = _RATING.findall(reply)
    return int(found[-1]) if found and found[-1] in map(str, range(7)) else None


PARSERS: dict[Mode, Callable[[str], int | None]] = {"compat": rating_as_published, "fixed": rating}


class Mmhal(Benchmark):
    name, title = "mmhal", "MMHal-Bench"
    stages = ("mmhal",)
    headline = ("Average score", "Hallucination rate")
    higher_is_better: Mapping[str, bool] = {
        "Average score": True,
        "Hallucination rate": False,
        "Informativeness": True,
        **{f"Average score ({kind})": True for kind in TYPES},
    }

    def items(self, data: Path) -> list[Item]:
        file = find(data, FILE)
        items = []
        for number, row in enumerate(read_rows(file)):
            where = f"{file}, row {number}"
            contents = row.get("image_content")
            if not isinstance(contents, list) or not all(isinstance(name, str) for name in contents):
                raise UserError(f"{where}: 'image_content' must be a list of texts")
            kind = text_of(row, ("question_type",), where)
            if kind not in TYPES:
                raise UserError(f"{where}: 'question_type' is {kind!r}; it can be {', '.join(TYPES)}")
            names = [str(row[name]) for name in ("image_src", "image_id") if row.get(name)] or [""]
            items.append(
                Item(
                    id=str(number),
                    question=text_of(row, ("question",), where),
                    image=next(filter(None, (picture_of(data, name) for name in (*names, f"{names[-1]}.jpg"))), ""),
                    image_id=names[0],
                    also=tuple(names[1:]),
                    category=kind,
                    reference={"contents": contents, "answer": text_of(row, ("gt_answer",), where)},
                )
            )
        return items

    def notes(self, rows: Sequence[Row], tools: Tools) -> list[str]:
        silent = sum(bool(row.replies) and not row.failed and rating(row.replies[-1].text) is None for row in rows)
        return [f"{silent} replies without a rating count as 0, as published"] if silent else []

    def examine(self, rows: Sequence[Row], tools: Tools) -> None:
        asked = []
        for row in rows:
            slots = {
                "contents": ", ".join(row.item.reference["contents"]),
                "question": row.item.question,
                "reference": row.item.reference["answer"],
                "answer": row.answer,
            }
            asked.append((row, Request("mmhal", "", fill(tools.prompts["mmhal"], slots, "mmhal"), 0.0, 512)))
        kinds = {id(row): _kind(row.item, tools.mode) for row in rows}
        for row, score in judged(tools.judge, asked, PARSERS[tools.mode]):
            row.values = {"score": score, "hallucinated": score < HALLUCINATED_BELOW, "type": kinds[id(row)]}

    def counts(self, row: Row) -> dict[str, float]:
        score = row.values["score"]
        of_type = {kind: float(kind == row.values["type"]) for kind in TYPES}
        return {
            "n": 1,
            "score": score,
            "hallucinated": row.values["hallucinated"],
            "informative": (score - 3 if score >= 3 else score) / 3,
            **{f"n {kind}": here for kind, here in of_type.items()},
            **{f"score {kind}": here * score for kind, here in of_type.items()},
        }

    def metrics(self, sums: Sums, mode: Mode) -> dict[str, Any]:
        n = sums["n"]
        return {
            "Average score": ratio(sums["score"], n),
            "Hallucination rate": ratio(sums["hallucinated"], n, 100),
            "Informativeness": ratio(sums["informative"], n, 100),
            **{f"Average score ({kind})": ratio(sums[f"score {kind}"], sums[f"n {kind}"]) for kind in TYPES},
        }


def _kind(item: Item, mode: Mode) -> str:
    return TYPES[int(item.id) % len(TYPES)] if mode == "compat" else item.category


MMHAL = Mmhal()
