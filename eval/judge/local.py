"""A judge on the devices of this process: any text model of this project, by the sampling engine."""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from eval.judge.cache import ReplyCache
from eval.judge.request import Request, Verdict
from eval.judge.trial import HOTTER, Trial, joined
from rlaifv_jax.chat_server import Said
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.errors import UserError
from rlaifv_jax.fingerprint import model_fingerprint
from rlaifv_jax.sampling.engine import Engine
from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.settings import COLDEST, Sampling

T = TypeVar("T")
Open = tuple[Any, Trial[T]]  # a tag and what it stands for


@dataclass(frozen=True)
class LocalOptions:
    """model: Hugging Face directory, hub id or directory of this project. template: conversation template; '': the
    model's own. dtype, cache, tensor, slots: as `rlaifv_jax.generate` takes them. seed: of draws. parse_retries: of a
    reply that cannot be read; at temperature 0 only the last of them can differ.

    Raises:
      UserError: a value that means nothing.
    """

    model: str
    template: str = ""
    dtype: str = ""
    cache: str = ""
    tensor: int = 0
    slots: int = 0
    seed: int = 0
    parse_retries: int = 1

    def __post_init__(self) -> None:
        if not self.model:
            raise UserError("the judge's model is not set; give a directory or a hub id")
        for name in ("tensor", "slots", "parse_retries"):
            value = getattr(self, name)
            if type(value) is not int or value < 0:
                raise UserError(f"the judge's {name} is {value!r}; a whole number of 0 or more is needed")


class LocalJudge:
    """See `Judge`. The model is loaded when it is first needed; a system's text is put in front of the user's."""

    def __init__(self, options: LocalOptions, cache: ReplyCache):
        self.options, self.cache = options, cache
        self.round = 0
        self.models: Counter[str] = Counter()
        self.engines: dict[Sampling, Engine] = {}

    @cached_property
    def speaker(self) -> Speaker:
        options = self.options
        return Speaker(
            options.model,
            dtype=options.dtype,
            tensor=options.tensor,
            template=options.template or None,
            key="the judge's model",
        )

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        speaker, options = self.speaker, self.options
        return {
            "kind": "local",
            "model": options.model,
            "host": "",
            "weights": model_fingerprint(speaker.params, speaker.dtype),
            "template": speaker.prompter.voice,
            "dtype": speaker.dtype,
            "cache": options.cache,
            "seed": options.seed,
            "system": "in front of the user's text",
            "parse_retries": options.parse_retries,
            "last_attempt_hotter_by": HOTTER,
        }

    def in_round(self, number: int) -> "LocalJudge":
        _ = self.settings  # loaded once for all rounds
        judge = copy.copy(self)
        judge.round = number
        return judge

    def trial(self, request: Request, parse: Callable[[str], T | None]) -> Trial[T]:
        """What is known of a request from the cache."""
        names = ("kind", "model", "host", "weights", "template", "dtype", "cache", "seed")
        identity = {**{name: self.settings[name] for name in names}, "round": self.round}
        return Trial(request, parse, self.cache, retries=self.options.parse_retries, judge=identity)

    def ask(
        self, asked: Iterable[tuple[Any, Request]], parse: Callable[[str], T | None]
    ) -> Iterator[tuple[Any, Verdict[T]]]:
        trials = [(tag, self.trial(request, parse)) for tag, request in asked]
        yield from (self._verdict(one) for one in trials if not one[1].open)
        while trials := [one for one in trials if one[1].open]:
            groups: dict[Sampling, list[Open[T]]] = {}
            for one in trials:
                groups.setdefault(_sampling(one[1]), []).append(one)
            for sampling, group in groups.items():
                for one in self._write(sampling, group):
                    if not one[1].open:
                        yield self._verdict(one)

    def _verdict(self, one: Open[T]) -> tuple[Any, Verdict[T]]:
        verdict = one[1].verdict()
        self.models.update(reply.model for reply in verdict.replies if reply.model)
        return one[0], verdict

    def _write(self, sampling: Sampling, group: Sequence[Open[T]]) -> Iterator[Open[T]]:
        """One attempt at each of them."""
        positions: dict[int, int] = {}
        refused: list[Open[T]] = []

        def prompts() -> Iterator[Prompt]:
            for place, (_, trial) in enumerate(group):
                text = joined(trial.request)
                try:
                    prompt = self.speaker.prompter.prompt(text, None, f"{self.round} {trial.attempt} {text}", place)
                    self.speaker.check_length(prompt.positions, sampling.max_new_tokens)
                except BadRow as fault:
                    trial.fail(str(fault))
                    refused.append(group[place])
                else:
                    positions[place] = prompt.positions
                    yield prompt

        for found in self._engine(sampling).generate(prompts()):
            (answer,) = found.answers
            _, trial = group[found.tag]
            reason = "stop" if answer.ended else "length"
            trial.take(Said(answer.text, reason, self.options.model, positions[found.tag], len(answer.tokens)))
            trial.recall()
            yield group[found.tag]
        yield from refused

    def _engine(self, sampling: Sampling) -> Engine:
        if sampling not in self.engines:
            options = self.options
            self.speaker.check_settings(sampling)
            self.engines[sampling] = self.speaker.engine(
                sampling, prompts=options.slots, cache=options.cache, seed=options.seed, steady=True
            )
        return self.engines[sampling]


def _sampling(trial: Trial[Any]) -> Sampling:
    """What the engine cannot tell from temperature 0 is 0."""
    heat = trial.temperature if trial.temperature >= COLDEST else 0.0
    return Sampling(temperature=heat, max_new_tokens=trial.request.max_tokens)
