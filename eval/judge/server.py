"""A judge behind any OpenAI-compatible server, see `rlaifv_jax.chat_server`."""

import copy
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from eval.judge.cache import ReplyCache
from eval.judge.request import Request, Verdict
from eval.judge.trial import HOTTER, Trial, joined
from rlaifv_jax.chat_server import ChatError, ChatServer, Denied, NoReply, Said, is_address
from rlaifv_jax.data.ahead import ahead
from rlaifv_jax.errors import UserError
from rlaifv_jax.server_requests import FIRST, FirstReplies

T = TypeVar("T")

DEAD = 8  # requests in a row without any reply, each after all its retries; the server is gone then
ADVICE = {  # by status of HTTP
    401: "; the key is taken from OPENAI_API_KEY",
    403: "; the key is taken from OPENAI_API_KEY",
    404: "; see that the model's name is right and the address ends as the server wants it, mostly in /v1",
}


@dataclass(frozen=True)
class JudgeOptions:
    """server: base URL; '': OPENAI_BASE_URL, else OpenAI's own. model: the name it goes by there. concurrency: requests
    at once. requests_per_minute: 0 for no limit; the client's own retries come on top. retries: of a request that
    fails. timeout: seconds without a byte of the reply. parse_retries: of a reply that cannot be read. require_model:
    whether a reply by another name than `model` is an error. system_as_user: send the system's text at the head of the
    user's, for servers that take no system message, or none alone.

    Raises:
      UserError: a value that means nothing.
    """

    server: str
    model: str
    concurrency: int = 8
    requests_per_minute: float = 0.0
    retries: int = 5
    timeout: float = 120.0
    parse_retries: int = 2
    require_model: bool = False
    system_as_user: bool = False

    def __post_init__(self) -> None:
        if not self.model:
            raise UserError("the judge's model is not set; give the name that it goes by on its server")
        if self.server and not is_address(self.server):
            raise UserError(f"the judge's server is {self.server!r}; an address as http://host:8000/v1 is needed")
        for name, least in (("concurrency", 1), ("retries", 0), ("parse_retries", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise UserError(f"the judge's {name} is {value!r}; a whole number of {least} or more is needed")
        if not 0 <= self.requests_per_minute < math.inf:
            raise UserError(f"the judge's requests_per_minute is {self.requests_per_minute}; it must be 0 or more")
        if not 0 < self.timeout < math.inf:
            raise UserError(f"the judge's timeout is {self.timeout}; it must be above 0")


class ServerJudge:
    """See `Judge`. All rounds share the server, its pace and what became of it.

    Raises:
      UserError: an address that is none.
    """

    def __init__(self, options: JudgeOptions, cache: ReplyCache):
        self.options, self.cache = options, cache
        self.line = Line(options)
        self.round = 0
        self.settings: Mapping[str, Any] = {
            "kind": "server",
            "model": options.model,
            "host": self.line.server.host,
            "system_as_user": options.system_as_user,
            "parse_retries": options.parse_retries,
            "last_attempt_hotter_by": HOTTER,
        }

    @property
    def models(self) -> Counter[str]:
        """Replies by the name that the server gave itself, of all rounds so far, cached ones included."""
        return self.line.models

    def in_round(self, number: int) -> "ServerJudge":
        judge = copy.copy(self)
        judge.round = number
        return judge

    def trial(self, request: Request, parse: Callable[[str], T | None]) -> Trial[T]:
        """What is known of a request from the cache."""
        identity = {name: self.settings[name] for name in ("kind", "model", "host", "system_as_user")}
        options = self.options
        return Trial(
            request,
            parse,
            self.cache,
            retries=options.parse_retries,
            judge={**identity, "round": self.round},
            required=options.model if options.require_model else "",
        )

    def ask(
        self, asked: Iterable[tuple[Any, Request]], parse: Callable[[str], T | None]
    ) -> Iterator[tuple[Any, Verdict[T]]]:
        line, many, stop = self.line, self.options.concurrency, threading.Event()

        def judge(one: tuple[Any, Request]) -> tuple[Any, Trial[T]]:
            trial = self.trial(one[1], parse)
            if trial.open:
                with self.cache.turn(trial.key):
                    trial.recall()
                    while trial.open:
                        self._attempt(trial, stop)
            return one[0], trial

        def until_denied() -> Iterator[tuple[Any, Request]]:
            for one in asked:
                if line.denied:
                    return
                yield one

        def judged() -> Iterator[tuple[Any, Trial[T]]]:
            found = ahead(judge, until_denied(), threads=many, most=2 * many)
            with closing(found):  # type: ignore[type-var]
                try:
                    for tag, trial in found:
                        line.models.update(reply.model for reply in trial.replies if reply.model)
                        if line.denied:
                            break
                        yield tag, trial
                finally:
                    stop.set()  # threads that wait to send something; replies under way are kept, but after Ctrl-C
            if line.denied:
                raise line.denied

        def none_taken(trial: Trial[T]) -> UserError:
            return UserError(f"the judge answers none of the first {FIRST} requests: {trial.verdict().error}")

        for tag, trial in line.first.sift(judged(), _shows, none_taken):
            yield tag, trial.verdict()

    def _attempt(self, trial: Trial[Any], stop: threading.Event) -> None:
        request = trial.request
        try:
            said = self.line.ask(self._messages(request), stop, trial.temperature, request.max_tokens)
        except ChatError as error:
            trial.fail(str(error))
        else:
            trial.take(said)
            trial.recall()

    def _messages(self, request: Request) -> list[dict[str, str]]:
        if self.options.system_as_user:
            return [{"role": "user", "content": joined(request)}]
        parts = (("system", request.system), ("user", request.user))
        return [{"role": role, "content": text} for role, text in parts if text]


def _shows(trial: Trial[Any]) -> bool | None:
    """Whether the server takes requests, as far as one tells."""
    if trial.paid:
        return True
    return False if trial.verdict().error and not all(reply.cached for reply in trial.replies) else None


class Line:
    """The way to a server, and what has become of it.

    models: see `ServerJudge`. first: holds failures back until it has replied. denied: why it takes nothing at all.
    dead: why nothing is sent any more.
    """

    def __init__(self, options: JudgeOptions):
        self.model = options.model
        self.server = ChatServer(
            options.server,
            requests_per_minute=options.requests_per_minute,
            retries=options.retries,
            timeout=options.timeout,
            setting="the judge's server",
        )
        self.models: Counter[str] = Counter()
        self.first = FirstReplies()
        self.denied: UserError | None = None
        self.dead = ""
        self._silent = 0  # requests in a row that nobody replied to
        self._lock = threading.Lock()

    def ask(
        self, messages: Sequence[Mapping[str, str]], stop: threading.Event, temperature: float, max_tokens: int
    ) -> Said:
        """Raises `ChatError`. Where that holds for all requests, the others are stopped."""
        if self.dead:
            raise ChatError(self.dead)
        try:
            said = self.server.ask(
                messages, stop, model=self.model, temperature=temperature, top_p=1.0, max_tokens=max_tokens
            )
        except Denied as error:
            with self._lock:
                advice = ADVICE.get(error.status, "")
                self.denied = self.denied or UserError(f"the judge's server {self.server.host}: {error}{advice}")
            stop.set()
            raise
        except NoReply as error:
            with self._lock:
                self._silent += 1
                if self._silent >= DEAD:
                    self.dead = f"not sent: the server gave no sign {DEAD} times in a row ({error})"
            raise
        except ChatError:  # it is ill, but there
            self._silent = 0
            raise
        self._silent = 0
        return said
