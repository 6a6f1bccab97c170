"""Claims of answers: which there are, where they stand, what a labeler says of them."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rlaifv_jax.data.finder import Pictures
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback import prompts
from rlaifv_jax.feedback.fields import Record
from rlaifv_jax.feedback.functions import Named
from rlaifv_jax.feedback.reading import Reading
from rlaifv_jax.feedback.rules import yes_chance
from rlaifv_jax.feedback.score import Score


@dataclass(frozen=True)
class Claim:
    """p: P(yes) of yes and no together, by the labeler; None where it could not be asked, and `error` says why."""

    text: str
    question: str
    p: float | None
    error: str = ""


class Piece(NamedTuple):
    """Text of an answer. claim: the number among its claims, None of what lies between them."""

    text: str
    claim: int | None


class Labeler:
    """A vision-language model that is asked about every claim, as rlaifv_jax.feedback does.

    Args:
      model: see `Speaker`. split, ask: functions as divide.by and question.by name them. check: file of score.prompt.

    Raises:
      UserError: the model cannot be a labeler.
    """

    def __init__(self, model: str, split: Named, ask: Named, check: str, reading: Reading):
        self.split, self.ask = split, ask
        self.score = Score(model, reading, prompts.load("check", check), Pictures([None]))
        self.score.open("--labeler")

    def claims(self, image: Path, question: str, answers: Sequence[str]) -> list[list[Claim]]:
        """Of every answer its claims, judged together: what several answers claim is asked once."""
        picture = {"image": {"bytes": image.read_bytes(), "path": None}}
        records = [self._record(question, answer) | {"metainfos": picture} for answer in answers]
        ((_, verdicts),) = self.score.work([records], set()) if any(r["facts"] for r in records) else ((0, []),)
        judged = iter(verdicts)
        return [
            [_claim(text, asked, next(judged)) for text, asked in zip(r["facts"], r["changed_facts"], strict=True)]
            for r in records
        ]

    def _record(self, question: str, answer: str) -> Record:
        facts = self.split.texts("claims", question, answer)
        asked = self.ask.texts("questions", facts)
        if len(facts) != len(asked):
            raise UserError(f"{self.ask.name} made {len(asked)} questions of {len(facts)} claims")
        return {"question": question, "answer": answer, "facts": facts, "changed_facts": asked}


def _claim(text: str, question: str, verdict: Record) -> Claim:
    if "error" in verdict:
        return Claim(text, question, None, verdict["error"])
    chance = yes_chance(verdict["scores"])
    return Claim(text, question, 0.0 if math.isnan(chance) else chance)


def located(question: str, answer: str, claims: Sequence[Claim]) -> tuple[list[Piece], list[int]]:
    """The answer in pieces, and the claims that do not stand in it word for word, one after the other."""
    pieces: list[Piece] = []
    elsewhere: list[int] = []
    start = 0
    for number, claim in enumerate(claims):
        words = claim.text.removeprefix(" ".join(question.split())).rstrip(" .").split()
        found = words and re.compile(r"\s*".join(map(re.escape, words)) + r"(\s*\.)?").search(answer, start)
        if not found:
            elsewhere.append(number)
            continue
        pieces += [Piece(answer[start : found.start()], None), Piece(found.group(), number)]
        start = found.end()
    pieces.append(Piece(answer[start:], None))
    return [piece for piece in pieces if piece.text], elsewhere
