"""A request on its way to a verdict: replies that cannot be read are followed by further attempts."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Generic, TypeVar

from eval.judge.cache import ReplyCache, key_of
from eval.judge.request import Reply, Request, Verdict
from rlaifv_jax.chat_server import Said

T = TypeVar("T")

HOTTER = 0.2  # added to the temperature of the last attempt: near 0, the same words would come again
HOTTEST = 2.0  # that servers take


class Trial(Generic[T]):
    """What is known of a request, from the cache at first.

    Args:
      parse: text → value, None where there is none to read.
      retries: attempts after the first.
      judge: what else decides a reply: kind, host, model, round.
      required: name that the judge has to give itself; '': any.
    """

    def __init__(
        self,
        request: Request,
        parse: Callable[[str], T | None],
        cache: ReplyCache,
        *,
        retries: int,
        judge: Mapping[str, Any],
        required: str = "",
    ):
        self.request, self.parse, self.cache = request, parse, cache
        self.retries, self.judge, self.required = retries, judge, required
        self.replies: list[Reply] = []
        self.value: T | None = None
        self.error = ""
        self._last = Said(None)
        self.recall()

    @property
    def attempt(self) -> int:
        return len(self.replies)

    @property
    def open(self) -> bool:
        """Whether there is something left to ask."""
        return self.value is None and not self.error and self.attempt <= self.retries

    @property
    def key(self) -> str:
        """Of the attempt that is next, in the cache."""
        return key_of(self._sent)

    @property
    def temperature(self) -> float:
        """Of the attempt that is next."""
        if not 0 < self.attempt == self.retries:
            return self.request.temperature
        return min(self.request.temperature + HOTTER, HOTTEST)

    @property
    def paid(self) -> bool:
        """Whether a reply has come in this run that was not to be refused."""
        return any(not reply.cached and not reply.error for reply in self.replies)

    @property
    def _sent(self) -> dict[str, Any]:
        attempt = {"temperature": self.temperature, "attempt": self.attempt}
        return {**self.judge, **asdict(self.request), **attempt}

    def recall(self) -> None:
        """Take what the cache holds, as far as it goes."""
        while self.open:
            known = self.cache.get(self.key)
            if known is None or (self.required and known.said.model != self.required):
                return
            self._judge(known.said, earlier=known.earlier)

    def take(self, said: Said) -> None:
        """The reply to the attempt that is next; it is kept, whatever it is worth."""
        self.cache.add(self.key, self._sent, said)
        self._judge(said, earlier=False)

    def fail(self, error: str) -> None:
        """There was no reply to the attempt that is next, and there will be none."""
        self.error = error
        self.replies.append(Reply("", error=error))

    def verdict(self) -> Verdict[T]:
        error = self.error
        if self.value is None and not error:
            error = f"none of {self.attempt} replies could be read; the last {_trouble(self._last, self.request)}"
        return Verdict(self.value, tuple(self.replies), error)

    def _judge(self, said: Said, *, earlier: bool) -> None:
        error = "" if said.text is not None else f"nothing is written (finish_reason {said.finish_reason!r})"
        if self.required and said.model != self.required:
            error = self.error = f"{self.required!r} is required, and {said.model!r} replies"
        elif said.text is not None:
            self.value = self.parse(said.text)
        self._last = said
        self.replies.append(
            Reply(said.text or "", error, said.model, said.input_tokens, said.output_tokens, cached=earlier)
        )


def _trouble(said: Said, request: Request) -> str:
    if said.finish_reason == "length":
        return f"was cut off at {request.max_tokens} tokens"
    if said.text is None:
        return f"says nothing (finish_reason {said.finish_reason!r})"
    start = " ".join(said.text.split())
    return f"begins {start[:80]!r}" if start else "is empty"


def joined(request: Request) -> str:
    """Both messages as one."""
    return "\n\n".join(text for text in (request.system, request.user) if text)
