"""What is asked of a judge and what comes back, whoever the judge is."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """stage: what it is for, e.g. 'mmhal'. system, user: the two messages; an empty one is not sent. max_tokens: of the
    reply."""

    stage: str
    system: str
    user: str
    temperature: float
    max_tokens: int


@dataclass(frozen=True)
class Reply:
    """text: what the judge wrote. error: why there is nothing. model: the name that the server gave itself.
    input_tokens, output_tokens: as the server counts, None where it does not say. cached: from an earlier run.
    """

    text: str
    error: str = ""
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached: bool = False


@dataclass(frozen=True)
class Verdict(Generic[T]):
    """value: what `parse` made of the last reply; None if nothing could be made of any. replies: all there were.
    error: why there is no value."""

    value: T | None
    replies: tuple[Reply, ...]
    error: str = ""


class Judge(Protocol):
    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides the replies, for the report: kind, requested model, host."""

    def in_round(self, number: int) -> "Judge":
        """The same judge for another repetition."""

    def ask(
        self, asked: Iterable[tuple[Any, Request]], parse: Callable[[str], T | None]
    ) -> Iterator[tuple[Any, Verdict[T]]]:
        """(tag, request) → (tag, verdict), in any order. A reply of which `parse` makes None is asked for again, a
        bounded number of times. A request that fails for good is a verdict with an error; nothing is raised for it.

        Raises:
          UserError: the judge refuses everything (a wrong key, an unknown model).
        """
