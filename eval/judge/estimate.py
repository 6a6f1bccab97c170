"""What judging would cost, before it does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from eval.judge.request import Request
from eval.judge.trial import Trial

CHARACTERS = 4  # of English to a token, roughly


class Recalls(Protocol):
    """A judge that remembers."""

    def trial(self, request: Request, parse: Callable[[str], Any]) -> Trial[Any]: ...


@dataclass(frozen=True)
class Estimate:
    """known: requests of which the cache holds a reply. input_tokens: of the calls that are left, by CHARACTERS.
    output_tokens: what their replies can have at most. again: times that an unreadable reply is asked for once more,
    in none of the figures."""

    known: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    again: int = 0

    def __add__(self, other: "Estimate") -> "Estimate":
        """Of another stage or round."""
        return Estimate(
            self.known + other.known,
            self.calls + other.calls,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            max(self.again, other.again),
        )

    def __str__(self) -> str:
        again = f"; a reply that cannot be read is asked for up to {self.again} times more" if self.again else ""
        return (
            f"{self.calls} calls ({self.known} more are in the cache), about {self.input_tokens} input tokens (counted "
            f"as {CHARACTERS} characters each), at most {self.output_tokens} output tokens{again}"
        )


def cost_of(trial: Trial[Any]) -> Estimate:
    """Of one request, from what is known of it."""
    request = trial.request
    if trial.replies:
        return Estimate(known=1, again=trial.retries)
    characters = len(request.system) + len(request.user)
    return Estimate(0, 1, -(-characters // CHARACTERS), request.max_tokens, trial.retries)
