"""What a language model of a feedback stage is, whoever runs it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rlaifv_jax.errors import UserError

DEVICES_AND_SERVERS = ("tensor", "slots", "requests_per_minute", "concurrency", "retries", "timeout")


@dataclass(frozen=True)
class WriterOptions:
    """model: Hugging Face directory, hub id or directory of this project; with a server, the name it goes by there.
    server: base URL of an OpenAI-compatible server; empty: the model runs here. template: conversation template; empty:
    the model's own. temperature, top_p, max_new_tokens: see `rlaifv_jax.sampling.settings.Sampling`.

    On devices: dtype, cache, tensor and slots as `rlaifv_jax.generate` takes them. With a server: requests_per_minute
    (0: no limit), concurrency: requests at once, retries: of a request that fails, timeout: seconds of one. Of these
    DEVICES_AND_SERVERS change no text.
    """

    model: str
    server: str
    template: str
    temperature: float
    top_p: float
    max_new_tokens: int
    dtype: str
    cache: str
    tensor: int
    slots: int
    requests_per_minute: float
    concurrency: int
    retries: int
    timeout: float


@dataclass(frozen=True)
class Written:
    """text: what was written. complete: False where max_new_tokens cut it off. error: why there is nothing."""

    text: str
    complete: bool = True
    error: str | None = None


class Writer(Protocol):
    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides the texts, known before anything is loaded."""

    def load(self) -> Mapping[str, Any]:
        """Make ready; returns what else decides the texts."""

    def write(self, asked: Iterable[tuple[Any, str]], attempt: int = 0) -> Iterator[tuple[Any, Written]]:
        """(tag, prompt) → (tag, text), as they are finished. A text depends on its prompt, the seed and which attempt
        at it this is (from 0) alone."""


def make_writer(options: WriterOptions, seed: int, key: str) -> Writer:
    """key: the section of the config, for messages."""
    if not options.model:
        raise UserError(f"{key}.model is not set; name a language model, or give {key}.function=module:function")
    if options.server:
        from rlaifv_jax.feedback.writers.server import ServerWriter

        return ServerWriter(options, seed, key)
    from rlaifv_jax.feedback.writers.local import LocalWriter

    return LocalWriter(options, seed)
