"""Answers → answers with the claims they make.

A language model splits each answer into self-contained sentences; or a function does, `function(question, answer)` →
list of claims. Adds `raw_facts`, what was written, and `facts`, its list.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from rlaifv_jax.cli import say
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback import bullets, lists, prompts
from rlaifv_jax.feedback.fields import Record, answer_of, question_of
from rlaifv_jax.feedback.functions import Named
from rlaifv_jax.feedback.lists import as_bullets, listed, settings_of
from rlaifv_jax.feedback.stage import Tally, Unit, told
from rlaifv_jax.feedback.writers import Writer
from rlaifv_jax.parallel import is_main
from rlaifv_jax.records.source import Input


@dataclass
class Divide:
    """See rlaifv_jax.feedback.stage.Stage.

    by: who divides. prompt: what a writer is asked. pieces: see `split_prompt`. legacy_bullets: read lists as the
    original does. first_ids: found by `load`, see `_numbers`.
    """

    by: Writer | Named
    prompt: prompts.Template
    pieces: int
    legacy_bullets: bool
    first_ids: list[int] | None = None

    def __post_init__(self) -> None:
        if self.pieces < 0:
            raise UserError(f"divide.pieces is {self.pieces}; it must be 0 (all) or more")

    name = "divide"
    code: Sequence[ModuleType] = (lists, bullets, prompts)

    @property
    def settings(self) -> Mapping[str, Any]:
        return settings_of(self.by) | {
            "prompt": self.prompt.fingerprint,
            "pieces": self.pieces,
            "legacy bullets": self.legacy_bullets,
        }

    def load(self, source: Input) -> Mapping[str, Any]:
        self.first_ids = _numbers(source)
        return self.by.load() if not isinstance(self.by, Named) else {}

    def units(self, shard: int, records: list[Record]) -> list[Unit]:
        if self.first_ids is not None:
            first = self.first_ids[shard]
            records = [_renumbered(record, first + place) for place, record in enumerate(records)]
        return [[record] for record in records]

    def work(self, units: Sequence[Unit], done: set[int]) -> Iterator[tuple[int, list[Record]]]:
        left = []
        for number, (record,) in enumerate(units):
            if number in done:
                continue
            if record.get("error") or not answer_of(record, "").strip():
                yield number, [record | {"raw_facts": "", "facts": []}]
            else:
                left.append((number, record))
        if isinstance(self.by, Named):
            for number, record in left:
                claims = self.by.texts("claims", question_of(record, ""), answer_of(record, ""))
                yield number, [record | {"raw_facts": as_bullets(claims), "facts": claims}]
            return
        cut: set[int] = set()

        def asked() -> Iterator[tuple[Any, str]]:
            for number, record in left:
                text, shorter = prompts.split_prompt(
                    self.prompt, question_of(record, ""), answer_of(record, ""), self.pieces
                )
                if shorter:
                    cut.add(number)
                yield number, text

        for number, written in self.by.write(asked()):
            record = units[number][0]
            more = {"answer_cut": True} if number in cut else {}
            yield number, [record | listed(written, "raw_facts", "facts", legacy=self.legacy_bullets) | more]

    def summary(self, records: Iterable[Record]) -> Sequence[str]:
        counts = Tally()
        for record in records:
            counts.see(record)
            counts["answers"] += 1
            counts["claims"] += len(record["facts"])
            counts["without claims"] += not record["facts"]
            counts["with an error"] += bool(record.get("error"))
            counts["whose end the prompt had no room for"] += "answer_cut" in record
            counts["whose list of claims was cut off"] += "raw_facts_cut" in record
        return [f"{counts['answers']} answers, {counts.pop('claims')} claims", *told("answers", counts)]


def _numbers(source: Input) -> list[int] | None:
    """See that every record is an answer; the first number of every shard if the answers need numbers of their own.

    Later stages tell answers apart by question_id; where it is missing or not unique they are numbered instead.
    """
    seen: set[str] = set()
    first, count, unique = [], 0, True
    for shard in range(source.count):
        first.append(count)
        for record in source.read(shard):
            where = f"{source.path}, record {count}"
            question_of(record, where)
            answer_of(record, where)
            number = record.get("question_id")
            unique = unique and number is not None and str(number) not in seen
            seen.add(str(number))
            count += 1
    if unique:
        return None
    if is_main():
        say(f"divide: {source.path}: question_id is missing or not unique; answers are numbered from 0 instead")
    return first


def _renumbered(record: Record, number: int) -> Record:
    given = {"given_question_id": record["question_id"]} if "question_id" in record else {}
    return record | {"question_id": number} | given
