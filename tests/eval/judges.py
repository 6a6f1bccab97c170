"""A judge that says what a test has it say."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from eval.judge.request import Reply, Request, Verdict

T = TypeVar("T")


class Scripted:
    """say: request → reply, or None where the server fails. Every request is kept in `heard`."""

    settings: Mapping[str, Any] = {"kind": "scripted", "model": "script", "host": ""}

    def __init__(self, say: Callable[[Request], str | None]):
        self.say, self.heard, self.round = say, list[Request](), 0

    def in_round(self, number: int) -> "Scripted":
        self.round = number
        return self

    def ask(
        self, asked: Iterable[tuple[Any, Request]], parse: Callable[[str], T | None]
    ) -> Iterator[tuple[Any, Verdict[T]]]:
        for tag, request in asked:
            self.heard.append(request)
            text = self.say(request)
            if text is None:
                yield tag, Verdict(None, (Reply("", error="no reply"),), "no reply")
            else:
                value = parse(text)
                yield tag, Verdict(value, (Reply(text, model="script-1"),), "" if value is not None else "unreadable")
