"""Who answers the questions of `rlaifv_jax.generate`: a model on these devices, or one behind a server."""

import argparse
import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from rlaifv_jax.data.ahead import ahead
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.questions import Question, Questions
from rlaifv_jax.fingerprint import model_fingerprint
from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.settings import Sampling
from rlaifv_jax.server_requests import Failed, ServerOptions, ServerRequests, nothing_said
from rlaifv_jax.vision_message import data_url, vision_message


@dataclass(frozen=True)
class Answer:
    """error: why there is no text. server_model: the name that a server gives itself, where it is not what was asked
    for."""

    text: str
    error: str | None = None
    server_model: str = ""

    @property
    def more(self) -> dict[str, str]:
        """What the record has beside the text."""
        given = {"error": self.error, "server_model": self.server_model}
        return {name: value for name, value in given.items() if value}


class Answers(Protocol):
    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the answers, known before anything is loaded."""

    def load(self) -> Mapping[str, Any]:
        """Make ready; returns what else decides the answers."""

    def of(self, questions: Sequence[Question]) -> Iterator[tuple[Question, list[Answer]]]:
        """All answers to each, in any order."""

    @property
    def speed(self) -> str:
        """For the progress bar."""


class LocalAnswers:
    """By the sampling engine."""

    def __init__(
        self, given: argparse.Namespace, speaker: Speaker, questions: Questions, settings: Sampling, samples: int
    ):
        self.given, self.speaker, self.questions = given, speaker, questions
        self.settings, self.samples = settings, samples
        self.identity: Mapping[str, Any] = {
            "template": speaker.prompter.voice,
            "image aspect ratio": speaker.prompter.aspect_ratio,
            "dtype": speaker.dtype,
            "cache": given.cache or speaker.dtype,
            **asdict(settings),
        }

    def load(self) -> Mapping[str, Any]:
        given = self.given
        self.engine = self.speaker.engine(
            self.settings,
            samples=self.samples,
            prompts=given.slots,
            branches=given.branches,
            cache=given.cache or "",
            seed=given.seed,
        )
        return {"weights": model_fingerprint(self.speaker.params, self.speaker.dtype)}

    def of(self, questions: Sequence[Question]) -> Iterator[tuple[Question, list[Answer]]]:
        refused: list[tuple[Question, list[Answer]]] = []

        def prompts() -> Iterator[Prompt]:
            for question, prompt in ahead(self._prompt, questions):
                if isinstance(prompt, str):
                    refused.append((question, [Answer("", prompt)] * self.samples))
                else:
                    yield prompt

        self.started = time.perf_counter()
        for found in self.engine.generate(prompts()):
            yield found.tag, [Answer(answer.text) for answer in found.answers]
            yield from refused
            refused.clear()
        yield from refused

    @property
    def speed(self) -> str:
        return f"{self.engine.account.tokens / (time.perf_counter() - self.started):.0f} tokens/s"

    def _prompt(self, question: Question) -> tuple[Question, Prompt | str]:
        """What the engine takes, or why there is nothing."""
        try:
            picture = self.questions.picture(question)
            prompt = self.speaker.prompter.prompt(question.text, picture, question.name, question)
            self.speaker.check_length(prompt.positions, self.settings.max_new_tokens)
        except BadRow as fault:
            return question, str(fault)
        return question, prompt


class ServerAnswers:
    """By an OpenAI-compatible server, a request for each answer. What nobody sets is left to the server.

    settings: of `Sampling` and OpenAI's protocol alike, as they are set.
    """

    def __init__(self, line: ServerOptions, questions: Questions, settings: Mapping[str, Any], seed: int, samples: int):
        self.line, self.questions, self.seed, self.samples = line, questions, seed, samples
        self.identity: Mapping[str, Any] = {"answered": "by a server", **settings}
        names = {"max_new_tokens": "max_tokens"}
        self.how = {names.get(name, name): value for name, value in settings.items() if value not in (None, [])}
        self.tokens = 0

    def load(self) -> Mapping[str, Any]:
        self.requests, self.started = ServerRequests(self.line), time.perf_counter()
        return {}

    def of(self, questions: Sequence[Question]) -> Iterator[tuple[Question, list[Answer]]]:
        asked = ((place, place) for question in questions for place in ((question, n) for n in range(self.samples)))
        found: dict[int, list[Answer]] = defaultdict(list)
        for (question, _), answer in self.requests.results(asked, lambda place: self._ask(*place)):
            given = found[question.index]
            given.append(Answer("", answer.error) if isinstance(answer, Failed) else answer)
            if len(given) == self.samples:  # they come in order
                yield question, found.pop(question.index)

    @property
    def speed(self) -> str:
        return f"{self.tokens / (time.perf_counter() - self.started):.0f} tokens/s"

    def _ask(self, question: Question, number: int) -> Answer | Failed:
        """What one thread does."""
        data = self.questions.image(question)
        message = vision_message(question.text, None if data is None else data_url(data))
        seed = answer_seed(self.seed, question.name, number)
        said = self.requests.server.ask([message], None, model=self.line.model, seed=seed, **self.how)
        if said.text is None:
            return nothing_said(said)
        self.tokens += said.output_tokens or 0
        return Answer(said.text.strip(), server_model=said.model if said.model != self.line.model else "")


def answer_seed(seed: int, name: str, number: int) -> int:
    """31 bits that an answer's draws depend on, as far as a server keeps to them."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{name}\n{number}".encode()).digest()[:4]) >> 1
