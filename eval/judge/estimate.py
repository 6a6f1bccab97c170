"""What judging would cost, before it does."""

from collections.abc import Callable, Iterable
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


def estimate(judge: Recalls, requests: Iterable[Request]) -> Estimate:
    """Nothing is sent."""
    total = Estimate()
    for request in requests:
        trial = judge.trial(request, lambda text: text)
        if trial.replies:
            total += Estimate(known=1, again=trial.retries)
        else:
            characters = len(request.system) + len(request.user)
            tokens = -(-characters // CHARACTERS)
            total += Estimate(0, 1, tokens, request.max_tokens, trial.retries)
    return total
