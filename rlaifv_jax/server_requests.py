"""Many requests to one server at once, and what becomes of the others when some of them fail.

What the server refuses for good, such as a prompt that is too long, fails alone. When retries do not help, the run
stops, and goes on behind what is finished when it is started again. If the server takes none of the first requests, the
run stops too, since the fault is hardly theirs.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from rlaifv_jax.chat_server import Busy, ChatError, ChatServer, Denied, Refused, Said, is_address
from rlaifv_jax.data.ahead import ahead
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.errors import UserError

A = TypeVar("A")
T = TypeVar("T")

FIRST = 8  # requests; if not one of them is taken, something is wrong with all
PATIENCE = ("requests_per_minute", "concurrency", "retries", "timeout")  # options that change no reply


@dataclass(frozen=True)
class ServerOptions:
    """server: base URL; empty where there is none. model: the name it goes by there. requests_per_minute: 0 for no
    limit. concurrency: requests at once. retries: of a request that fails. timeout: seconds without a byte of the
    reply. key: section of the config, for messages; empty for options of a command line.

    Raises:
      UserError: a value that means nothing.
    """

    key: str

    server: str
    model: str
    requests_per_minute: float
    concurrency: int
    retries: int
    timeout: float

    def __post_init__(self) -> None:
        for name, good, legal in (
            ("concurrency", self.concurrency >= 1, "1 or more"),
            ("retries", self.retries >= 0, "0 or more"),
            ("requests_per_minute", 0 <= self.requests_per_minute < math.inf, "0 or more"),
            ("timeout", 0 < self.timeout < math.inf, "above 0"),
        ):
            if not good:
                raise UserError(f"{self.named(name)} is {getattr(self, name)}; it must be {legal}")
        if self.server and not is_address(self.server):
            raise UserError(f"{self.named('server')} is {self.server!r}; an address as http://host:8000/v1 is needed")

    def named(self, name: str) -> str:
        """An option as a person has set it."""
        return f"{self.key}.{name}" if self.key else f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class Failed:
    """A request without a result. taken: whether the server took it; None: it was not sent."""

    error: str
    taken: bool | None = False


class FirstReplies:
    """Holds failures back for as long as a server has taken nothing: `taken` tells whether it has."""

    def __init__(self) -> None:
        self.taken = False

    def sift(
        self,
        results: Iterable[tuple[Any, T]],
        taken: Callable[[T], bool | None],
        refusal: Callable[[T], UserError],
    ) -> Iterator[tuple[Any, T]]:
        """The same results, in order.

        Args:
          taken: whether a result shows that the server takes requests, or not; None: it shows nothing.
          refusal: what to say of the last of FIRST failures, when there was nothing else.
        """
        held: list[tuple[Any, T]] = []
        for tag, result in results:
            shows = taken(result)
            self.taken = self.taken or shows is True
            if shows is False and not self.taken:
                held.append((tag, result))
                if len(held) == FIRST:
                    raise refusal(result)
                continue
            if self.taken:
                yield from held
                held.clear()
            yield tag, result
        yield from held


class ServerRequests:
    """Asks a server, many at once.

    Raises:
      UserError: an address that is none.
    """

    def __init__(self, options: ServerOptions):
        self.options = options
        self.server = ChatServer(
            options.server,
            requests_per_minute=options.requests_per_minute,
            retries=options.retries,
            timeout=options.timeout,
            setting=options.named("server"),
        )
        self.first = FirstReplies()
        self.broken: UserError | None = None

    def results(
        self, asked: Iterable[tuple[Any, A]], ask: Callable[[A], T | Failed], *, advice: str = ""
    ) -> Iterator[tuple[Any, T | Failed]]:
        """(tag, what) → (tag, ask(what)), in order.

        Args:
          ask: sends a request by `server`, in a thread; what it raises as ChatError or BadRow is a failure of this
            request or the end of the run. advice: behind the message that not one request is taken.

        Raises:
          UserError: nothing more can be had from this server, or `ask` raised it.
        """
        many, self.broken = self.options.concurrency, None

        def one(tagged: tuple[Any, A]) -> tuple[Any, T | Failed | None]:
            return tagged[0], self._ask(ask, tagged[1])

        def until_broken() -> Iterator[tuple[Any, A]]:
            for tagged in asked:
                if self.broken:
                    return
                yield tagged

        def found() -> Iterator[tuple[Any, T | Failed]]:
            # Threads that have an answer already give it, whatever has become of the others.
            for tag, result in ahead(one, until_broken(), threads=many, most=2 * many):
                if result is not None:
                    yield tag, result
            if self.broken:
                raise self.broken

        place = self.options.key or self.options.named("server")
        return self.first.sift(
            found(),
            lambda result: result.taken if isinstance(result, Failed) else True,
            lambda result: UserError(
                f"{place}: not one of the first {FIRST} prompts is taken: {getattr(result, 'error', '')}{advice}"
            ),
        )

    def _ask(self, ask: Callable[[A], T | Failed], what: A) -> T | Failed | None:
        """What one thread does; when one has given up, the others need not begin."""
        if self.broken:
            return None
        address, setting = self.options.server, self.options.named("server")
        try:
            return ask(what)
        except BadRow as fault:
            return Failed(str(fault), taken=None)
        except Refused as error:
            return Failed(f"the server refuses it: {error}")
        except (Denied, Busy) as error:
            stop = UserError(f"{setting}: {address}: {error}")
        except ChatError as error:
            stop = UserError(
                f"{setting}: {address} gives no usable reply after {self.options.retries} retries ({error}); "
                "start the same command again when it does"
            )
        except UserError as error:
            stop = error
        self.broken = self.broken or stop
        return None


def nothing_said(said: Said) -> Failed:
    """Of a reply without a text."""
    return Failed(f"the server writes nothing (finish_reason {said.finish_reason!r})")
