"""What a language model of a feedback stage is, whoever runs it."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

from rlaifv_jax.errors import UserError
from rlaifv_jax.sampling.settings import Sampling, drawing
from rlaifv_jax.server_requests import PATIENCE, ServerOptions

DEVICES_AND_SERVERS = ("tensor", "slots", *PATIENCE)


@dataclass(frozen=True)
class WriterOptions:
    """model: Hugging Face directory, hub id or directory of this project; with a server, the name it goes by there.
    server: base URL of an OpenAI-compatible server; empty: the model runs here. template: conversation template; empty:
    the model's own. temperature, top_p, max_new_tokens: see `rlaifv_jax.sampling.settings.Sampling`.

    On devices: dtype, cache, tensor and slots as `rlaifv_jax.generate` takes them. With a server: see `ServerOptions`.
    Of these DEVICES_AND_SERVERS change no text. key: section of the config, for messages.

    Raises:
      UserError: a value that means nothing.
    """

    key: str

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

    def __post_init__(self) -> None:
        if not self.model:
            raise UserError(f"{self.key}.model is not set; name a language model, or give {self.key}.function")
        for name in ("tensor", "slots"):
            if getattr(self, name) < 0:
                raise UserError(f"{self.key}.{name} is {getattr(self, name)}; it must be 0 or more")
        self.line  # noqa: B018  # raises for an option that means nothing
        try:
            self.sampling({})
        except UserError as error:
            raise UserError(f"{self.key}: {error}") from None

    @property
    def line(self) -> ServerOptions:
        """The way to the server."""
        return ServerOptions(**{field.name: getattr(self, field.name) for field in fields(ServerOptions)})

    def sampling(self, checkpoint: Mapping[str, Any]) -> Sampling:
        """How texts are drawn here. checkpoint: generation_config.json."""
        drawn = {**drawing(checkpoint), "top_p": self.top_p} if self.temperature else {}
        return Sampling(temperature=self.temperature, max_new_tokens=self.max_new_tokens, **drawn)


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


def make_writer(options: WriterOptions, seed: int) -> Writer:
    if options.server:
        from rlaifv_jax.feedback.writers.server import ServerWriter

        return ServerWriter(options, seed)
    from rlaifv_jax.feedback.writers.local import LocalWriter

    return LocalWriter(options, seed)
