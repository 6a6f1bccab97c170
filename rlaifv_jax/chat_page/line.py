"""First come, first served: the devices work for one at a time. And what a person can do meanwhile: press Stop."""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field


class Line:
    """Tickets in the order in which they were taken."""

    def __init__(self) -> None:
        self._tickets: deque[object] = deque()
        self._moved = threading.Condition()

    def join(self) -> object:
        """A ticket, which has to be given back by `leave`."""
        ticket = object()
        with self._moved:
            self._tickets.append(ticket)
        return ticket

    def leave(self, ticket: object) -> None:
        with self._moved:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
            self._moved.notify_all()

    def wait(self, ticket: object, halt: threading.Event) -> Iterator[int]:
        """How many come first, whenever that has changed; ends when nobody does, or `halt` is set."""
        told = 0
        while not halt.is_set():
            with self._moved:
                ahead = self._tickets.index(ticket)
                if ahead == told != 0:
                    self._moved.wait(0.2)
                    continue
            if not ahead:
                return
            told = ahead
            yield ahead


class Baton:
    """Lets two answers grow by turns. Between turns nothing is under way, so that what several devices do together is
    started in one order on all of them."""

    def __init__(self) -> None:
        self.line = Line()

    def take(self) -> object:
        ticket = self.line.join()
        for _ in self.line.wait(ticket, threading.Event()):
            pass
        return ticket

    def give(self, ticket: object) -> None:
        self.line.leave(ticket)


@dataclass
class Request:
    """asking: the question. halt: set where the rest is not wanted. dropped: nor is what there is; the page shows
    something else by now."""

    asking: str = ""
    halt: threading.Event = field(default_factory=threading.Event)
    dropped: bool = False


class Visitors:
    """Open pages by their session, each with at most one request."""

    def __init__(self) -> None:
        self._requests: dict[str, Request] = {}

    def begin(self, session: str, asking: str = "") -> Request:
        """A new request; one that the page has already is dropped."""
        self.drop(session)
        self._requests[session] = Request(asking)
        return self._requests[session]

    def stop(self, session: str) -> None:
        if request := self._requests.get(session):
            request.halt.set()

    def drop(self, session: str) -> str:
        """The conversation is another, or the page has gone. Returns the question that stays without an answer."""
        request = self._requests.pop(session, None)
        if not request:
            return ""
        left = "" if request.halt.is_set() else request.asking
        request.dropped = True
        request.halt.set()
        return left
