"""A language model on the devices of this process, by the sampling engine."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.feedback.writers.common import WriterOptions, Written
from rlaifv_jax.fingerprint import model_fingerprint
from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.sampling.prompt import Prompt


class LocalWriter:
    """See `Writer`."""

    def __init__(self, options: WriterOptions, seed: int):
        self.options, self.seed = options, seed
        named = ("model", "template", "temperature", "top_p", "max_new_tokens", "dtype", "cache")
        self.settings = {**{name: getattr(options, name) for name in named}, "seed": seed}

    def load(self) -> Mapping[str, Any]:
        options = self.options
        speaker = self.speaker = Speaker(
            options.model,
            dtype=options.dtype,
            tensor=options.tensor,
            template=options.template or None,
            key=f"{options.key}.model",
        )
        self.sampling = options.sampling(speaker.defaults)
        speaker.check_settings(self.sampling)
        self.engine = speaker.engine(
            self.sampling, prompts=options.slots, cache=options.cache, seed=self.seed, steady=True
        )
        return {
            "weights": model_fingerprint(speaker.params, speaker.dtype),
            "conversation template": speaker.prompter.voice,
            "sampling": asdict(self.sampling),
        }

    def write(self, asked: Iterable[tuple[Any, str]], attempt: int = 0) -> Iterator[tuple[Any, Written]]:
        refused: list[tuple[Any, Written]] = []

        def prompts() -> Iterator[Prompt]:
            for tag, text in asked:
                try:
                    prompt = self.speaker.prompter.prompt(text, None, f"{text}{attempt or ''}", tag)
                    self.speaker.check_length(prompt.positions, self.sampling.max_new_tokens)
                except BadRow as fault:
                    refused.append((tag, Written("", error=str(fault))))
                else:
                    yield prompt

        for found in self.engine.generate(prompts()):
            (answer,) = found.answers
            yield found.tag, Written(answer.text, complete=answer.ended)
        yield from refused
