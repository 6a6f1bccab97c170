"""RefoMB: open questions about pictures with long checked descriptions; a judge compares a model with GPT-4V.

Source: Yu et al. 2024 (RLAIF-V, arXiv 2405.17220), eval/gpt4_eval_refomb of the original. GPT-4V is A, the model B.
`Win.` is the share of wins, ties counted half, by the judge's review; `Trust.` the same by a second question about that
review alone: who has fewer hallucinations. `compat`: the first [[A]], [[B]] or [[C]] of a reply counts. `fixed`: the
last does, in any usual writing. With Tools.swap both orders are asked and averaged.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.benchmark import Benchmark, Item, Mode, Row, Sums, Tools, ratio
from eval.files import find, picture_of, read_rows, text_of
from eval.judge.request import Request
from eval.judging import verdicts
from eval.keyed import keyed
from eval.prompts import CHECKER, fill
from rlaifv_jax.errors import UserError

FILES = ("gpt4v_RefoMB_dev_0521.jsonl",)  # questions, descriptions and GPT-4V's answers
CATEGORIES = (
    "Coarse Perception",
    "Fine-grained perception",
    "Relation reasoning",
    "Attribute reasoning",
    "Time series inference",
    "Mechanical logical reasoning",
    "Creative generation",
    "OCR",
)
OVERALL, HALLUCINATION = "refomb_overall", "refomb_hallucination"
READER = "You are a helpful and precise assistant."
SCORES = {"A": -1, "C": 0, "B": 1}
_LOOSE = re.compile(r"\[\[?\s*\**\s*([ABC])\s*\**\s*\]\]?")
_STRICT = re.compile(r"\[\[([ABC])\]\]")


def verdict_as_published(reply: str) -> int | None:
    """-1: A is better, 0: a tie, 1: B is better."""
    found = _STRICT.search(reply)
    return SCORES[found[1]] if found else None


def verdict(reply: str) -> int | None:
    found = _STRICT.findall(reply) or _LOOSE.findall(reply)
    return SCORES[found[-1]] if found else None


PARSERS: dict[Mode, Callable[[str], int | None]] = {"compat": verdict_as_published, "fixed": verdict}


class Refomb(Benchmark):
    name, title = "refomb", "RefoMB"
    stages = (OVERALL, HALLUCINATION)
    compares = True
    headline = ("Trust.", "Win.")
    higher_is_better: Mapping[str, bool] = {
        "Trust.": True,
        "Win.": True,
        **{f"Win. ({kind})": True for kind in CATEGORIES},
    }

    def items(self, data: Path) -> list[Item]:
        file = find(data, *FILES)
        items = []
        for key, row in keyed(read_rows(file), "id", file).items():
            where = f"{file}, id {key}"
            address, kind = text_of(row, ("image_url",), where), text_of(row, ("type",), where)
            if kind not in CATEGORIES:
                raise UserError(f"{where}: 'type' is {kind!r}; it can be {', '.join(CATEGORIES)}")
            reference = {
                "description": text_of(row, ("description", "gt_description"), where),
                "answer": text_of(row, ("answer", "text"), where),
            }
            if not reference["answer"].strip():
                raise UserError(f"{where}: 'answer' is empty; the file with GPT-4V's answers is needed, {FILES[0]}")
            items.append(
                Item(
                    id=key,
                    question=text_of(row, ("question", "prompt"), where),
                    image=picture_of(data, address),
                    image_id=address,
                    category=kind,
                    reference=reference,
                )
            )
        return items

    def examine(self, rows: Sequence[Row], tools: Tools) -> None:
        parse = PARSERS[tools.mode]
        orders = (False, True) if tools.swap else (False,)
        overall = [((row, swapped), self._compare(row, swapped, tools)) for row in rows for swapped in orders]
        reviews = []
        for (row, swapped), score in verdicts(tools.judge, overall, parse):
            row.values.setdefault("overall", []).append(-score if swapped else score)
            review = row.replies[-1].text
            slots = {"review": review}
            text = fill(tools.prompts[HALLUCINATION], slots, HALLUCINATION)
            reviews.append(((row, swapped), Request(HALLUCINATION, READER, text, 0.0, 2048)))
        reviews = [one for one in reviews if not one[0][0].failed]
        for (row, swapped), score in verdicts(tools.judge, reviews, parse):
            row.values.setdefault("trust", []).append(-score if swapped else score)
        for row in rows:
            if not row.failed:
                row.values = {
                    "win": sum(row.values["overall"]) / len(orders),
                    "trust": sum(row.values["trust"]) / len(orders),
                    "type": row.item.category,
                }

    def _compare(self, row: Row, swapped: bool, tools: Tools) -> Request:
        theirs, ours = row.item.reference["answer"], row.answer
        slots = {
            "description": row.item.reference["description"],
            "question": row.item.question,
            "answer_a": ours if swapped else theirs,
            "answer_b": theirs if swapped else ours,
        }
        return Request(OVERALL, CHECKER, fill(tools.prompts[OVERALL], slots, OVERALL), 1e-5, 2048)

    def counts(self, row: Row) -> dict[str, float]:
        win, trust, kind = row.values["win"], row.values["trust"], row.values["type"]
        of_kind = {f"n {name}": float(name == kind) for name in CATEGORIES}
        credit = {f"credit {name}": (win + 1) / 2 * (name == kind) for name in CATEGORIES}
        outcomes = {"win": win > 0, "tie": win == 0, "loss": win < 0}
        return {
            "n": 1,
            "credit": (win + 1) / 2,
            "trust": (trust + 1) / 2,
            **{name: float(value) for name, value in outcomes.items()},
            **of_kind,
            **credit,
        }

    def metrics(self, sums: Sums, mode: Mode) -> dict[str, Any]:
        return {
            "Trust.": ratio(sums["trust"], sums["n"], 100),
            "Win.": ratio(sums["credit"], sums["n"], 100),
            **{name: sums[name] for name in ("win", "tie", "loss")},
            **{f"Win. ({kind})": ratio(sums[f"credit {kind}"], sums[f"n {kind}"], 100) for kind in CATEGORIES},
        }


REFOMB = Refomb()
