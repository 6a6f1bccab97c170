"""Claims → a yes/no question for each.

A language model turns all claims of an answer into questions at once; or a function does, `function(claims)` → list of
questions. Adds `raw_changed_facts`, what was written, and `changed_facts`, its list.

Claims and questions must be as many, or nobody knows which belong together. If they are not, the model is asked again
for one claim at a time; an answer for which that fails too gets an `error` and is not scored.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback import bullets, lists, prompts
from rlaifv_jax.feedback.fields import Record, texts_of
from rlaifv_jax.feedback.functions import Named
from rlaifv_jax.feedback.lists import as_bullets, listed, settings_of
from rlaifv_jax.feedback.stage import Tally, Unit, told
from rlaifv_jax.feedback.writers import Writer
from rlaifv_jax.records.source import Input

MISMATCHES = ("repair", "report", "zip")


@dataclass
class Question:
    """See rlaifv_jax.feedback.stage.Stage.

    by: who asks. prompt: what a writer is asked. mismatch: what to do where claims and questions are not as many:
    'repair', 'report' (an error at once), or 'zip' (the first of each together, as the original does silently).
    """

    by: Writer | Named
    prompt: prompts.Template
    legacy_bullets: bool
    mismatch: str

    name = "question"
    code: Sequence[ModuleType] = (lists, bullets, prompts)

    def __post_init__(self) -> None:
        if self.mismatch not in MISMATCHES:
            raise UserError(f"question.mismatch is {self.mismatch!r}; it can be {', '.join(map(repr, MISMATCHES))}")

    @property
    def settings(self) -> Mapping[str, Any]:
        return settings_of(self.by) | {
            "prompt": self.prompt.fingerprint,
            "legacy bullets": self.legacy_bullets,
            "mismatch": self.mismatch,
        }

    def load(self, source: Input) -> Mapping[str, Any]:
        return self.by.load() if not isinstance(self.by, Named) else {}

    def units(self, shard: int, records: list[Record]) -> list[Unit]:
        for record in records:
            texts_of(record, "facts", "question")
        return [[record] for record in records]

    def work(self, units: Sequence[Unit], done: set[int]) -> Iterator[tuple[int, list[Record]]]:
        left = {number: unit[0] for number, unit in enumerate(units) if number not in done}
        for number, record in left.items():
            if not record["facts"]:
                yield number, [record | {"raw_changed_facts": "", "changed_facts": []}]
        claims = {number: record["facts"] for number, record in left.items() if record["facts"]}
        if isinstance(self.by, Named):
            for number, facts in claims.items():
                found = self.by.texts("questions", list(facts))
                asked = {"raw_changed_facts": as_bullets(found), "changed_facts": found}
                yield number, [self._checked(left[number] | asked)]
            return
        amiss: dict[int, Record] = {}
        for number, written in self.by.write((n, prompts.question_prompt(self.prompt, c)) for n, c in claims.items()):
            record = left[number] | listed(written, "raw_changed_facts", "changed_facts", legacy=self.legacy_bullets)
            if self.mismatch != "repair" or _fits(record):
                yield number, [self._checked(record)]
            else:
                amiss[number] = record
        yield from self._one_by_one(self.by, amiss)

    def _one_by_one(self, by: Writer, amiss: Mapping[int, Record]) -> Iterator[tuple[int, list[Record]]]:
        alone = [(number, place) for number, record in amiss.items() for place in range(len(record["facts"]))]
        asked = ((key, prompts.question_prompt(self.prompt, [amiss[key[0]]["facts"][key[1]]])) for key in alone)
        found: dict[tuple[int, int], list[str]] = {}
        for key, written in by.write(asked, attempt=1):
            found[key] = listed(written, "raw", "items", legacy=self.legacy_bullets)["items"]
        for number, record in amiss.items():
            each = [found[number, place] for place in range(len(record["facts"]))]
            if all(len(one) == 1 for one in each):
                record = record | {"changed_facts": [one[0] for one in each], "questions_repaired": True}
                record.pop("error", None)
            yield number, [self._checked(record)]

    def _checked(self, record: Record) -> Record:
        if self.mismatch == "zip" or record.get("error") or _fits(record):
            return record
        numbers = f"{len(record['facts'])} claims, {len(record['changed_facts'])} questions"
        return record | {"error": f"claims_without_questions: {numbers}"}

    def summary(self, records: Iterable[Record]) -> Sequence[str]:
        counts = Tally()
        for record in records:
            counts.see(record)
            counts["answers"] += 1
            counts["questions"] += len(record["changed_facts"])
            counts["asked for one claim at a time, since questions were not as many"] += "questions_repaired" in record
            counts["with an error, which will not be scored"] += bool(record.get("error"))
            counts["whose claims and questions are not as many"] += not record.get("error") and not _fits(record)
        return [
            f"{counts.pop('questions')} questions about {counts['answers']} answers",
            *told("answers", counts),
        ]


def _fits(record: Record) -> bool:
    return not record.get("error") and len(record["facts"]) == len(record["changed_facts"])
