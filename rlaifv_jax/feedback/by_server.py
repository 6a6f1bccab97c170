"""Questions about claims → how sure a labeler behind an OpenAI-compatible server is of yes and of no.

Each question is a request with the picture before it, and the answer is a token: P(yes), P(Yes), P(no) and P(No) are
those of the `top_logprobs` of this first token. A token that is one of the words but for a blank before it counts as
the word; a word that is not among them has no mass. Where none of the words is, there is no verdict but an error.

verdict='text' is for servers without log-probabilities: the first word of the reply is the verdict, with a probability
of 1, or there is none.
"""

import math
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from rlaifv_jax import server_requests, vision_message
from rlaifv_jax.chat_server import Said, said
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.finder import Pictures
from rlaifv_jax.errors import UserError, shortened
from rlaifv_jax.feedback import items
from rlaifv_jax.feedback.fields import Owner, Record, owner_of
from rlaifv_jax.feedback.prompts import Template
from rlaifv_jax.feedback.rules import WORDS, margin
from rlaifv_jax.feedback.score import failed, items_of, summary
from rlaifv_jax.feedback.stage import Unit
from rlaifv_jax.records.source import Input
from rlaifv_jax.server_requests import Failed, ServerOptions, ServerRequests, nothing_said
from rlaifv_jax.vision_message import data_url
from rlaifv_jax.vision_message import vision_message as message

VERDICTS = ("logprobs", "text")
MOST_LOGPROBS = 20  # of the protocol
KEPT = 32  # pictures that wait, encoded, for further questions about them
BLANKS = " \n\t▁Ġ"  # before a word, as tokenizers write them


@dataclass(frozen=True)
class Likely:
    """said: the reply. first: the likeliest tokens in its first place, and their log-probabilities; None where the
    server tells none."""

    said: Said
    first: tuple[tuple[str, float], ...] | None


@dataclass(frozen=True)
class Verdict:
    """answer: what was said. scores: of WORDS. model: the name that the server gives itself."""

    answer: str
    scores: dict[str, float]
    model: str


@dataclass
class ServerScore:
    """See rlaifv_jax.feedback.stage.Stage.

    line: the way to the server. verdict: one of VERDICTS. top_logprobs: how many of the likeliest tokens are asked for.
    max_new_tokens: of a reply in text. require_model: whether a reply by another name than asked for is an error.
    """

    line: ServerOptions
    prompt: Template
    pictures: Pictures
    verdict: str
    top_logprobs: int
    max_new_tokens: int
    require_model: bool

    name = "score"
    code: Sequence[ModuleType] = (items, server_requests, vision_message)

    def __post_init__(self) -> None:
        if not self.line.model:
            raise UserError("score.model is not set; give the name that the labeler goes by on its server")
        if self.verdict not in VERDICTS:
            raise UserError(f"score.verdict is {self.verdict!r}; it can be {' or '.join(map(repr, VERDICTS))}")
        if not 2 <= self.top_logprobs <= MOST_LOGPROBS:
            raise UserError(f"score.top_logprobs is {self.top_logprobs}; it must lie between 2 and {MOST_LOGPROBS}")
        if self.max_new_tokens < 1:
            raise UserError(f"score.max_new_tokens is {self.max_new_tokens}; it must be 1 or more")
        self.weighs = False  # whether the server has told log-probabilities yet
        self._urls: dict[Owner, str] = {}
        self._lock = threading.Lock()

    @property
    def settings(self) -> Mapping[str, Any]:
        by = ("top_logprobs",) if self.verdict == "logprobs" else ("max_new_tokens",)
        given = {name: getattr(self, name) for name in ("verdict", *by, "require_model")}
        return {"labeler": "behind a server", "model": self.line.model, **given, "prompt": self.prompt.fingerprint}

    def load(self, source: Input) -> Mapping[str, Any]:
        self.requests = ServerRequests(self.line)
        return {}

    def units(self, shard: int, records: list[Record]) -> list[Unit]:
        """A claim each, so that a kill loses nothing that was paid for."""
        return [[item] for record in records for item in items_of(record, self.prompt)]

    def work(self, units: Sequence[Unit], done: set[int]) -> Iterator[tuple[int, list[Record]]]:
        same: dict[tuple[Owner, str], list[int]] = defaultdict(list)  # a question that several answers raise
        for number, (item,) in enumerate(units):
            if number not in done:
                same[owner_of(item), item["question"]].append(number)
        advice = "; if it has no log-probabilities, set score.verdict='text'" if self.verdict == "logprobs" else ""
        asked = ((numbers, units[numbers[0]][0]) for numbers in same.values())
        for numbers, found in self.requests.results(asked, self._ask, advice=advice):
            for number in numbers:
                yield number, [self._record(units[number][0], found)]

    def summary(self, records: Iterable[Record]) -> Sequence[str]:
        names = Counter[str]()

        def seen() -> Iterator[Record]:
            for record in records:
                names.update([record["server_model"]] if "server_model" in record else [])
                yield record

        lines = list(summary(seen()))
        others = [f"{count} claims were judged by a server that calls itself {name!r}" for name, count in names.items()]
        return [*lines, *others]

    def _record(self, item: Record, found: Verdict | Failed) -> Record:
        model = self.line.model
        if isinstance(found, Failed):
            return failed(item, found.error, model)
        more = {"server_model": found.model} if found.model not in ("", model) else {}
        return items.feedback_record(item, found.answer, found.scores, model, margin=margin(found.scores), **more)

    def _ask(self, item: Record) -> Verdict | Failed:
        """What one thread does."""
        server, messages = self.requests.server, [message(item["question"], self._url(item))]
        how = {"model": self.line.model, "temperature": 0.0}
        if self.verdict == "text":
            reply = server.ask(messages, None, max_tokens=self.max_new_tokens, **how)
            return self._other_model(reply) or by_text(reply)
        weighed = {"max_tokens": 1, "logprobs": True, "top_logprobs": self.top_logprobs}
        likely = server.ask_for(likeliest, messages, None, **weighed, **how)
        if fault := self._other_model(likely.said):
            return fault
        if likely.first is None and not self.weighs:
            raise UserError(
                f"score.server: {self.line.server} tells no log-probabilities of {self.line.model}; start it so that "
                "it does, or set score.verdict='text' to go by the word that it says"
            )
        self.weighs = True
        return by_chances(likely)

    def _url(self, item: Record) -> str:
        owner = owner_of(item)
        if (url := self._urls.get(owner)) is not None:
            return url
        data = self.pictures.read(item)
        if data is None:
            raise BadRow("image_missing", "the record names no picture")
        url = data_url(data)
        with self._lock:
            while len(self._urls) >= KEPT:
                self._urls.pop(next(iter(self._urls)))
            self._urls[owner] = url
        return url

    def _other_model(self, reply: Said) -> Failed | None:
        wanted = self.line.model
        if self.require_model and reply.model != wanted:
            return Failed(f"other_model: {wanted!r} is required, and {reply.model!r} replies")
        return None


def likeliest(reply: Any) -> Likely:
    """Reads a reply, see `ChatServer.ask_for`."""
    words = said(reply)
    told = reply.choices[0].logprobs
    places = told.content if told is not None else None
    if not places or not places[0].top_logprobs:
        return Likely(words, None)
    first = tuple((str(one.token), float(one.logprob)) for one in places[0].top_logprobs)
    if not sum(math.exp(min(logprob, 1.0)) for _, logprob in first) < 1.01:
        raise ValueError(f"log-probabilities that are none: {first[:3]}")
    return Likely(words, first)


def by_chances(likely: Likely) -> Verdict | Failed:
    """The verdict of the first token's probabilities."""
    if likely.said.finish_reason == "content_filter":
        return nothing_said(likely.said)
    if likely.first is None:
        return Failed("no_logprobs: the server tells none with this reply", taken=True)
    scores = dict.fromkeys(WORDS, 0.0)
    for token, logprob in likely.first:
        if (word := token.strip(BLANKS)) in scores:
            scores[word] += math.exp(logprob)
    if not any(scores.values()):
        tokens = ", ".join(repr(token) for token, _ in likely.first[:5])
        return Failed(f"neither: yes and no are not among its likeliest tokens, {tokens}, …", taken=True)
    return Verdict(likely.first[0][0].strip(BLANKS), scores, likely.said.model)


def by_text(reply: Said) -> Verdict | Failed:
    """The verdict of the first word."""
    if reply.text is None:
        return nothing_said(reply)
    first = re.match(r"\W*(yes|no)\b", reply.text, re.IGNORECASE)
    if first is None:
        return Failed(f"neither: the reply does not begin with yes or no: {shortened(repr(reply.text))}", taken=True)
    word = first[1].capitalize() if first[1][0].isupper() else first[1].lower()
    return Verdict(reply.text.strip(), dict.fromkeys(WORDS, 0.0) | {word: 1.0}, reply.model)
