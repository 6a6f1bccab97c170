"""Log-probabilities of answers under a model, in nats: all answers to a question as branches of one prefix."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from types import ModuleType
from typing import Any

import numpy as np

from rlaifv_jax.data.encode import Encoded, Encoder
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.finder import Pictures
from rlaifv_jax.data.schema import Example
from rlaifv_jax.data.templates import Turn, said_before, without_tags
from rlaifv_jax.data.tiles import Placement
from rlaifv_jax.feedback.fields import Record, answer_of, owner_of, question_of
from rlaifv_jax.feedback.reading import Reading, placement, tiles
from rlaifv_jax.feedback.stage import Tally, Unit, told
from rlaifv_jax.fingerprint import model_fingerprint
from rlaifv_jax.records.source import Input
from rlaifv_jax.sampling import calls, forward
from rlaifv_jax.sampling.forward import Forward
from rlaifv_jax.sampling.load import Speaker


def to_one_question(records: Sequence[Record]) -> list[Unit]:
    """Answers, cut where the next question begins."""
    return [list(group) for _, group in groupby(records, owner_of)]


@dataclass
class Likelihood:
    """Log-probabilities of all answers under one model. See rlaifv_jax.feedback.stage.Stage.

    A record may hold `history`, the (question, answer) that came before its own.
    """

    name: str
    model: str
    reading: Reading
    pictures: Pictures

    code: Sequence[ModuleType] = (calls, forward)

    @property
    def settings(self) -> Mapping[str, Any]:
        return {"model": self.model, **self.reading.settings}

    def load(self, source: Input) -> Mapping[str, Any]:
        self.use(self.reading.open(self.model, f"best_of_n.{self.name}"))
        return {
            "weights": model_fingerprint(self.forward.params, self.speaker.dtype),
            **self.speaker.prompter.identity,
        }

    def use(self, speaker: Speaker) -> None:
        """Score under a model that is open."""
        prompter = speaker.prompter
        self.speaker = speaker
        self.encoder = Encoder(
            speaker.tokenizer, prompter.template, prompter.processor, speaker.context, objective="sft"
        )
        self.forward = Forward.of(speaker)

    def units(self, shard: int, records: list[Record]) -> list[Unit]:
        return to_one_question(records)

    def work(self, units: Sequence[Unit], done: set[int]) -> Iterator[tuple[int, list[Record]]]:
        encoded: list[Encoded] = []
        owners: list[int] = []
        asked: list[list[Encoded | str]] = []
        for number, unit in enumerate(units):
            answers = self._encode(unit)
            asked.append(answers)
            if good := [answer for answer in answers if isinstance(answer, Encoded)]:
                whole = tuple(answer.answers[0] for answer in good)  # a prefix is the same for all, whatever follows
                encoded.append(replace(good[0], answers=whole, truncated=()))
                owners.append(number)
        for number in set(range(len(units))) - set(owners) - done:
            yield number, self._records(asked[number], [])
        wanted = {place for place, number in enumerate(owners) if number not in done}
        found = self.forward.log_probs(
            encoded,
            lambda place: tiles(self.speaker, self.pictures, units[owners[place]][0]),
            wanted,
            **self.reading.rows,
        )
        for place, values in found:
            answers = asked[owners[place]]
            if isinstance(values, BadRow):
                fault = str(values)
                answers = [fault if isinstance(answer, Encoded) else answer for answer in answers]
                values = []
            yield owners[place], self._records(answers, values)

    def _encode(self, unit: Unit) -> list[Encoded | str]:
        """Answers behind their question, or why they cannot be scored."""
        try:
            named = self.pictures.names(unit[0])
            picture = placement(self.speaker, self.pictures, unit[0]) if named else None
        except BadRow as fault:
            return [str(fault)] * len(unit)
        return [self._encode_one(record, picture) for record in unit]

    def _encode_one(self, record: Record, picture: Placement | None) -> Encoded | str:
        question = without_tags(self.encoder.template.image_tags, question_of(record, "an answer"))
        turns = (*said_before(record.get("history", ())), Turn("user", question))
        try:
            return self.encoder.encode_with(Example(0, "", None, turns, (answer_of(record, "an answer"),)), picture)
        except BadRow as fault:
            return str(fault)

    def _records(self, answers: Sequence[Encoded | str], values: Sequence[np.ndarray]) -> list[Record]:
        found = iter(values)
        records: list[Record] = []
        for answer in answers:
            if isinstance(answer, str):
                records.append({"log_prob": None, "tokens": 0, "error": answer})
            else:
                each = next(found)
                total = float(np.sum(each, dtype=np.float64))
                if math.isfinite(total):
                    records.append({"log_prob": total, "tokens": len(each)})
                else:
                    fault = "not_a_number: the log-probability is none; the weights may be damaged"
                    records.append({"log_prob": None, "tokens": 0, "error": fault})
        return records

    def summary(self, records: Iterable[Record]) -> Sequence[str]:
        counts = Tally()
        for record in records:
            counts.see(record)
            counts["answers"] += 1
            counts["that cannot be scored"] += "error" in record
        return [f"{counts['answers']} answers under {self.model}", *told("answers", counts)]
