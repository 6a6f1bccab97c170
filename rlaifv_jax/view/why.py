"""Why two answers became a pair, or did not: the rules of the stage of pairs, one by one, with what they found."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.balance import GAPS, within
from rlaifv_jax.feedback.rules import SMALLEST, Rules
from rlaifv_jax.records.shards import MANIFEST
from rlaifv_jax.view.entry import Side, Step

FATES = {
    "kept": "kept",
    "allowed": "allowed by the rules",
    "cap": "over the cap",
    "lengths": "lengths too different",
    "same": "twice the same text",
    "picture": "picture cannot be read",
    "alike": "scores too alike",
    "uncovered": "verdicts do not cover the claims",
    "answer": "answer in no pair",
}
DROPPED = ("cap", "lengths", "same", "picture", "alike", "uncovered", "answer")


@dataclass(frozen=True)
class Measured:
    """What the rules look at in an answer. claims: that are not empty. asked: different questions with a verdict."""

    score: float
    claims: int
    asked: int
    rejected: int
    words: int


def measured(side: Side) -> Measured:
    heard = {claim.question for claim in side.claims if claim.accepted is not None}
    claims = sum(claim.text != "" for claim in side.claims)
    return Measured(side.score or 0.0, claims, len(heard), side.rejected, side.words)


@dataclass(frozen=True)
class Ways:
    """How pairs were made. balance: a key of BALANCES. ratio: the largest that it kept, None where it is not known."""

    rules: Rules = field(default_factory=Rules)
    balance: str = "none"
    ratio: float | None = None

    def fate(self, chosen: Measured, rejected: Measured, same: bool) -> str:
        """Of a pair that is not kept: the first rule that leaves it out whatever the others do, or 'cap' where only
        that is left. same: whether the texts are."""
        if chosen.score - rejected.score < self.rules.difference - SMALLEST:
            return "alike"
        if self.rules.consistent and not all(one.asked == one.claims for one in (chosen, rejected)):
            return "uncovered"
        if same:
            return "same"
        return "cap" if self._near(chosen, rejected) is not False else "lengths"

    @property
    def tells_lengths(self) -> bool:
        """Whether it is known which lengths were too different."""
        return self.balance not in GAPS or self.ratio is not None

    def steps(self, chosen: Measured, rejected: Measured) -> tuple[Step, ...]:
        """The rules that look at the two answers alone."""
        gap = chosen.score - rejected.score
        told = " and ".join(f"{one.rejected} of {one.asked}" for one in (chosen, rejected))
        scores = f"{_short(chosen.score)} and {_short(rejected.score)}: {_short(gap)} apart"
        covered = all(one.asked == one.claims for one in (chosen, rejected))
        asked = " and ".join(f"{one.asked} of {one.claims}" for one in (chosen, rejected))
        steps = [
            Step("Claims that the labeler rejected", told, None),
            Step(
                f"Scores differ by {_short(self.rules.difference)} or more",
                scores,
                gap >= self.rules.difference - SMALLEST,
            ),
        ]
        if self.rules.consistent:
            steps.append(Step("Verdicts cover the claims", f"{asked} claims", covered))
        if self.balance in GAPS:
            steps.append(self._lengths(chosen, rejected))
        return tuple(steps)

    def _lengths(self, chosen: Measured, rejected: Measured) -> Step:
        share = GAPS[self.balance](chosen.words, rejected.words) / max(rejected.words, 1)
        found = f"{chosen.words} and {rejected.words} words: {max(share, 0):.0%}"
        way = "not shorter" if self.balance == "one_sided" else "neither shorter nor longer"
        if self.ratio is None:
            return Step(f"The chosen answer is {way} by too much", f"{found}; the limit is not known", None)
        return Step(f"The chosen answer is {way} by more than {self.ratio:.0%}", found, self._near(chosen, rejected))

    def _near(self, chosen: Measured, rejected: Measured) -> bool | None:
        if self.balance not in GAPS:
            return True
        if self.ratio is None:
            return None
        return bool(within([(chosen.words, rejected.words)], self.ratio, GAPS[self.balance]))


def ways_of(directory: Path) -> Ways | None:
    """How the pairs of a directory were made; None for one that the stage of pairs has not written.

    Raises:
      UserError: its manifest or its report is damaged.
    """
    found = read_json(directory / MANIFEST)
    if found.get("stage") != "pairs":
        return None
    try:
        rules = Rules(**{key.name: found["rules"][key.name] for key in fields(Rules)})
        return Ways(rules, str(found["balance"]), read_json(directory / "report.json").get("ratio"))
    except (KeyError, TypeError):
        raise UserError(f"{directory / MANIFEST} is damaged; remove {directory} to make the pairs anew") from None


def read_json(file: Path) -> dict[str, Any]:
    """An object, empty where there is no such file. Raises `UserError` where it holds something else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError):
        raise UserError(f"{file} is damaged: it holds no JSON; make the pairs again") from None
    if not isinstance(found, dict):
        raise UserError(f"{file} is damaged: it holds no JSON object; make the pairs again")
    return found


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
