"""Questions about claims → how sure a labeler is of yes and of no.

All claims of all answers to a question are branches of one prefix: the picture is computed once, a question that
several answers raise is asked once, and nothing is generated; the probabilities are those of the next token behind the
prompt, by a float32 softmax over the whole vocabulary.

`scores` holds P(yes), P(Yes), P(no) and P(No), `answer` the likeliest token, `margin` what speaks for yes less what
speaks for no.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from types import ModuleType
from typing import Any

import numpy as np

from rlaifv_jax.data import images
from rlaifv_jax.data.ahead import ahead
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.data.encode import Encoded
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.finder import Pictures
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback import items, labeler
from rlaifv_jax.feedback.divide import told
from rlaifv_jax.feedback.fields import Record, group_of
from rlaifv_jax.feedback.labeler import WORDS, branched
from rlaifv_jax.feedback.pairs import accepts
from rlaifv_jax.feedback.prompts import Template
from rlaifv_jax.feedback.stage import Unit
from rlaifv_jax.fingerprint import model_fingerprint
from rlaifv_jax.records.source import Input
from rlaifv_jax.sampling import forward
from rlaifv_jax.sampling.capacity import LENGTHS
from rlaifv_jax.sampling.forward import Call, Forward, Place
from rlaifv_jax.sampling.load import Speaker

AHEAD = 2  # calls whose pictures are decoded before they are wanted


@dataclass(frozen=True)
class LabelerOptions:
    """model, vision_path, template, image_aspect_ratio, dtype, tensor: as `rlaifv_jax.generate` takes them.

    row_length: positions of a row that several pictures share; 0: a row for each. longest_row: positions beyond which
    the claims about a picture go to several rows.
    """

    model: str
    vision_path: str
    template: str
    image_aspect_ratio: str
    dtype: str
    tensor: int
    row_length: int
    longest_row: int

    def __post_init__(self) -> None:
        if not self.model:
            raise UserError("score.model is not set; name the labeler")
        for name in ("row_length", "longest_row"):
            value = getattr(self, name)
            if not (value == 0 and name == "row_length") and not 64 <= value <= LENGTHS[-1]:
                raise UserError(f"score.{name} is {value}; it must lie between 64 and {LENGTHS[-1]}")


@dataclass
class Account:
    """What has been computed. positions: without padding. answered: claims, those that share a question included."""

    images: int = 0
    positions: int = 0
    questions: int = 0
    answered: int = 0


@dataclass
class Score:
    """See rlaifv_jax.feedback.stage.Stage.

    prompt: how a question is put to the labeler.
    """

    options: LabelerOptions
    prompt: Template
    pictures: Pictures
    account: Account = field(default_factory=Account)

    name = "score"
    code: Sequence[ModuleType] = (labeler, items, forward)

    @property
    def settings(self) -> Mapping[str, Any]:
        options = self.options
        named = ("model", "template", "image_aspect_ratio", "dtype", "row_length", "longest_row")
        return {**{name: getattr(options, name) for name in named}, "prompt": self.prompt.fingerprint}

    def load(self, source: Input) -> Mapping[str, Any]:
        options = self.options
        self.speaker = Speaker(
            options.model,
            vision_path=options.vision_path or None,
            dtype=options.dtype,
            tensor=options.tensor,
            template=options.template or None,
            pad=options.image_aspect_ratio == "pad",
        )
        if not self.speaker.model.family.sees:
            raise UserError(f"score.model: {options.model} is a language model; a labeler has to see the picture")
        self.tokens = labeler.answer_tokens(self.speaker.prompter, f"score.model: {options.model}")
        self.forward = Forward(self.speaker)
        return {
            "weights": model_fingerprint(self.forward.params, self.speaker.dtype),
            "conversation template": self.speaker.prompter.template_name,
            "answer tokens": dict(zip(WORDS, self.tokens.ids, strict=True)),
        }

    def units(self, shard: int, records: list[Record]) -> list[Unit]:
        """What is asked about one picture in one question's name."""

        def about(record: Record) -> tuple[str, str]:
            question = record["metainfos"].get("origin_question") if items.is_item(record) else None
            return group_of(record), str(question or record.get("raw_question", record.get("question")))

        return [list(group) for _, group in groupby(records, about)]

    def work(self, units: Sequence[Unit], done: set[int]) -> Iterator[tuple[int, list[Record]]]:
        asked = [self._items(unit) for unit in units]
        groups: dict[int, Encoded] = {}
        questions: dict[int, list[str]] = {}
        for number, found in enumerate(asked):
            if not found:
                if number not in done:
                    yield number, []
                continue
            questions[number] = list(dict.fromkeys(item["question"] for item in found))
            try:
                groups[number] = self._encode(questions[number])
            except BadRow as fault:
                if number not in done:
                    yield number, self._failed(found, str(fault))
        order = list(groups)
        encoded = [groups[number] for number in order]
        calls = forward.plan(
            encoded,
            self.speaker.model.config.image_size,
            self.forward.unit,
            row_length=self.options.row_length,
            longest_row=self.options.longest_row,
        )
        # A call is made again as a whole, so that what a kill has left over does not change its shapes.
        calls = [call for call in calls if not {order[group] for group in call.groups} <= done]
        faults: dict[int, str] = {}

        def build(call: Call) -> tuple[tuple[Call, list[Place]], Batch]:
            def pixels(group: int) -> np.ndarray | None:
                try:
                    return self._pixels(units[order[group]][0])
                except BadRow as fault:
                    faults[group] = str(fault)
                    return None

            batch, places = forward.build(call, encoded, pixels)
            return (call, places), batch

        waiting: dict[int, dict[int, tuple[dict[str, float], int]]] = {group: {} for group in range(len(order))}
        left = {group: sum(group in call.groups for call in calls) for group in range(len(order))}
        batches = ahead(build, calls, most=AHEAD)
        for (call, places), chances, best in self.forward.next_tokens(batches, self.tokens.known):
            for place in places:
                verdict = self.tokens.scores(chances[place.row, place.start]), int(best[place.row, place.start])
                waiting[place.group][place.branch] = verdict
            self._count(call, encoded, places)
            for group in sorted(call.groups):
                left[group] -= 1
                number = order[group]
                if left[group] or number in done:
                    continue
                if group in faults:
                    yield number, self._failed(asked[number], faults[group])
                else:
                    yield number, self._records(asked[number], questions[number], waiting.pop(group))

    def _items(self, unit: Unit) -> list[Record]:
        return [
            item
            for record in unit
            for item in ([record] if items.is_item(record) else items.yes_no_items(record, self.prompt))
        ]

    def _encode(self, questions: Sequence[str]) -> Encoded:
        encoded = branched(self.speaker.prompter, questions, image=True)
        longest = encoded.prefix_length + max(len(answer.tokens) for answer in encoded.answers)
        self.speaker.check_length(longest, 1)
        return encoded

    def _pixels(self, record: Record) -> np.ndarray:
        data = self.pictures.read(record)
        if data is None:
            raise BadRow("image_missing", "the record names no picture")
        return self.speaker.prompter.pixels(images.decode(data))

    def _records(
        self, found: Sequence[Record], questions: Sequence[str], verdicts: Mapping[int, tuple[dict[str, float], int]]
    ) -> list[Record]:
        number = {question: place for place, question in enumerate(questions)}
        records = []
        for item in found:
            scores, best = verdicts[number[item["question"]]]
            answer = self.speaker.tokenizer.decode([best]).strip()
            margin = scores["yes"] + scores["Yes"] - scores["no"] - scores["No"]
            records.append(items.feedback_record(item, answer, scores, self.options.model, margin=margin))
        self.account.answered += len(records)
        return records

    def _failed(self, found: Sequence[Record], error: str) -> list[Record]:
        nothing = dict.fromkeys(WORDS, 0.0)
        return [items.feedback_record(item, "", nothing, self.options.model, error=error) for item in found]

    def _count(self, call: Call, encoded: Sequence[Encoded], places: Sequence[Place]) -> None:
        there = {place.group for place in places}
        for row in call.rows:
            for piece in row:
                if piece.group in there:
                    group = encoded[piece.group]
                    branches = group.answers[piece.first : piece.stop]
                    self.account.images += group.image_tokens > 0
                    self.account.positions += group.prefix_length + sum(len(branch.tokens) for branch in branches)
                    self.account.questions += len(branches)

    def summary(self, records: Iterable[Record]) -> Sequence[str]:
        counts = Counter[str]()
        for record in records:
            counts["claims"] += 1
            counts["with an error"] += "error" in record
            counts["accepted"] += "error" not in record and accepts(record["scores"])
        about = f"{counts.pop('claims')} claims"
        return [about, *told("claims", counts)]
