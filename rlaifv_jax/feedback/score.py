"""Questions about claims → how sure a labeler is of yes and of no.

All claims of all answers to a question are branches of one prefix: the picture is computed once, a question that
several answers raise is asked once, and nothing is generated; the probabilities are those of the next token behind the
prompt, by a float32 softmax over the whole vocabulary.

`scores` holds P(yes), P(Yes), P(no) and P(No), `answer` the likeliest token, `margin` what speaks for yes less what
speaks for no.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import ModuleType
from typing import Any

from rlaifv_jax.data.encode import Encoded
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.finder import Pictures
from rlaifv_jax.data.templates import Turn
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback import items, labeler
from rlaifv_jax.feedback.fields import Record, owner_of
from rlaifv_jax.feedback.labeler import branched
from rlaifv_jax.feedback.prompts import Template
from rlaifv_jax.feedback.reading import Reading, placement, tiles
from rlaifv_jax.feedback.rules import WORDS, accepts, margin
from rlaifv_jax.feedback.stage import Tally, Unit, told
from rlaifv_jax.fingerprint import model_fingerprint
from rlaifv_jax.records.source import Input
from rlaifv_jax.sampling import calls, forward
from rlaifv_jax.sampling.forward import Forward, NextToken


@dataclass(frozen=True)
class Asked:
    """About one picture: items, the prompt of every question that can be asked, and why others cannot."""

    items: list[Record]
    prompts: dict[str, Encoded]
    faults: dict[str, str]


@dataclass
class Score:
    """See rlaifv_jax.feedback.stage.Stage.

    model: the labeler. reading: how it reads. prompt: how a question is put to it.
    """

    model: str
    reading: Reading
    prompt: Template
    pictures: Pictures

    name = "score"
    code: Sequence[ModuleType] = (labeler, items, calls, forward)

    def __post_init__(self) -> None:
        if not self.model:
            raise UserError("score.model is not set; name the labeler")
        self.reading.check("score")

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"model": self.model, **self.reading.settings, "prompt": self.prompt.fingerprint}

    def load(self, source: Input) -> Mapping[str, Any]:
        self.open("score.model")
        return {
            "weights": model_fingerprint(self.forward.params, self.speaker.dtype),
            **self.speaker.prompter.identity,
            "answer tokens": dict(zip(WORDS, self.tokens.ids, strict=True)),
        }

    def open(self, key: str) -> None:
        """Load the labeler. key: the setting that names it, for messages."""
        self.speaker = self.reading.open(self.model, key)
        if not self.speaker.model.family.sees:
            raise UserError(f"{key}: {self.model} is a language model; a labeler has to see the picture")
        self.tokens = labeler.answer_tokens(self.speaker.prompter, f"{key}: {self.model}")
        self.forward = Forward.of(self.speaker)

    def units(self, shard: int, records: list[Record]) -> list[Unit]:
        """What is asked about one picture in one question's name."""
        return [list(group) for _, group in groupby(records, owner_of)]

    def work(self, units: Sequence[Unit], done: set[int]) -> Iterator[tuple[int, list[Record]]]:
        asked = [self._ask(unit) for unit in units]
        order = [number for number, one in enumerate(asked) if one.prompts]
        for number, one in enumerate(asked):
            if number not in done and not one.prompts:
                yield number, [failed(item, one.faults[item["question"]], self.model) for item in one.items]
        found = self.forward.next_tokens(
            [branched(self.speaker.prompter, list(asked[number].prompts.values())) for number in order],
            lambda place: tiles(self.speaker, self.pictures, asked[order[place]].items[0]),
            {place for place, number in enumerate(order) if number not in done},
            self.tokens.known,
            **self.reading.rows,
        )
        for place, verdicts in found:
            one = asked[order[place]]
            faults = dict(one.faults)
            said: dict[str, NextToken] = {}
            if isinstance(verdicts, BadRow):
                faults |= dict.fromkeys(one.prompts, str(verdicts))
            else:
                said = dict(zip(one.prompts, verdicts, strict=True))
            yield (
                order[place],
                [
                    failed(item, faults[item["question"]], self.model)
                    if item["question"] in faults
                    else self._record(item, said[item["question"]])
                    for item in one.items
                ],
            )

    def _ask(self, unit: Unit) -> Asked:
        """Every question once, however many claims raise it."""
        asked = Asked([], {}, {})
        for record in unit:
            asked.items.extend(items_of(record, self.prompt))
        questions = list(dict.fromkeys(item["question"] for item in asked.items))
        try:
            picture = placement(self.speaker, self.pictures, unit[0])
        except BadRow as fault:
            asked.faults.update(dict.fromkeys(questions, str(fault)))
            return asked
        for question in questions:
            try:
                prompt = self.speaker.prompter.encode([Turn("user", question)], picture)
                self.speaker.check_length(prompt.prefix_length, 1)
                asked.prompts[question] = prompt
            except BadRow as fault:
                asked.faults[question] = str(fault)
        return asked

    def _record(self, item: Record, verdict: NextToken) -> Record:
        scores = self.tokens.scores(verdict.chances)
        if not all(map(math.isfinite, scores.values())):
            error = "not_a_number: the labeler's probabilities are none; its weights may be damaged"
            return failed(item, error, self.model)
        answer = self.speaker.tokenizer.decode([verdict.best]).strip()
        return items.feedback_record(item, answer, scores, self.model, margin=margin(scores))

    def summary(self, records: Iterable[Record]) -> Sequence[str]:
        return summary(records)


def items_of(record: Record, prompt: Template) -> list[Record]:
    """What is asked about an answer; a record that is an item already stays one."""
    return [record] if items.is_item(record) else items.yes_no_items(record, prompt)


def failed(item: Record, error: str, model: str) -> Record:
    """The record of an item without a verdict."""
    return items.feedback_record(item, "", dict.fromkeys(WORDS, 0.0), model, error=error)


def summary(records: Iterable[Record]) -> Sequence[str]:
    """See rlaifv_jax.feedback.stage.Stage."""
    counts = Tally()
    for record in records:
        counts.see(record)
        counts["claims"] += 1
        counts["with an error"] += "error" in record
        counts["that the labeler answers with other words than yes and no"] += (
            "error" not in record and sum(record["scores"].values()) < 0.5
        )
        counts["accepted"] += "error" not in record and accepts(record["scores"])
    return [f"{counts['claims']} claims", *told("claims", counts)]
