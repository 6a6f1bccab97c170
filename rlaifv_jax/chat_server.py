"""An OpenAI-compatible server (vLLM, SGLang, llama.cpp, a public one), by the `openai` client.

The key is taken from OPENAI_API_KEY. A request that fails is sent again with growing pauses, a bounded number of times;
what then is left is a `ChatError`, whose class says whom it concerns: this request, all of them, or nobody for long.
"""

import os
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from rlaifv_jax.errors import UserError

T = TypeVar("T")
Message = Mapping[str, Any]  # of the protocol

REFUSED = (400, 413, 422)  # statuses: of one request
PASSING = (408, 409, 429)  # and 5xx; the client has tried again already
NO_MONEY = "insufficient_quota"  # a code that comes with 429 and does not pass
PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds, before a reply that is none is asked for again


class ChatError(Exception):
    """Why there is no reply, in one line."""


class Refused(ChatError):
    """The server will never take this request, such as one that is too long."""


class Denied(ChatError):
    """The server takes no request at all: a wrong key, an unknown model. status: of HTTP."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class Busy(ChatError):
    """Too many requests, or the server is ill; also after all retries."""


class NoReply(ChatError):
    """Nobody is there, or silent for too long; also after all retries."""


class Garbled(ChatError):
    """Replies that are none, all of them."""


@dataclass(frozen=True)
class Said:
    """text: what the model wrote, None for nothing. finish_reason, model, input_tokens, output_tokens: as the server
    says, None or '' where it does not."""

    text: str | None
    finish_reason: str | None = None
    model: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None


class ChatServer:
    """Safe to share between threads.

    Args:
      address: base URL; '': OPENAI_BASE_URL, else the client's own.
      requests_per_minute: 0 for no limit. retries: of a request. timeout: seconds without a byte of the reply.
      setting: where the address came from, for messages.

    Raises:
      UserError: an address that is none.
    """

    def __init__(self, address: str, *, requests_per_minute: float, retries: int, timeout: float, setting: str):
        import openai

        try:
            self.client = openai.OpenAI(
                base_url=address or None,
                api_key=os.environ.get("OPENAI_API_KEY") or "none",
                max_retries=retries,
                timeout=timeout,
            )
        except (openai.OpenAIError, ValueError, TypeError) as error:
            raise UserError(f"{setting}: {error}") from None
        self.retries, self.pace = retries, Pace(requests_per_minute)
        self.address = str(self.client.base_url)
        if not is_address(self.address):
            raise UserError(f"{setting} is {self.address!r}; an address as http://host:8000/v1 is needed")

    @property
    def host(self) -> str:
        """Name and port, without what else an address may hold."""
        parts = urlsplit(self.address)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    def ask(self, messages: Sequence[Message], stop: threading.Event | None = None, /, **how: Any) -> Said:
        """One reply. stop: ends all waiting here. how: model, temperature and so on, as the client takes them.

        Raises:
          ChatError: there is none.
        """
        return self.ask_for(said, messages, stop, **how)

    def ask_for(
        self, read: Callable[[Any], T], messages: Sequence[Message], stop: threading.Event | None = None, /, **how: Any
    ) -> T:
        """The same. read: makes of the client's reply what is wanted, as `said` does; for what it cannot read it raises
        ValueError, TypeError, AttributeError or LookupError, and the request is sent again."""
        import openai

        last = ""
        for number in range(1 + self.retries):
            if number:
                _sleep(min(PAUSE * 2 ** (number - 1), LONGEST_PAUSE) * random.uniform(0.75, 1), stop)
            self.pace.wait(stop)
            if stop and stop.is_set():
                raise ChatError("stopped before it was sent")
            try:
                return read(self.client.chat.completions.create(messages=messages, **how))  # type: ignore[arg-type]
            except openai.APIStatusError as error:
                raise _of_status(error) from None
            except openai.APIConnectionError as error:  # the client has tried again already
                raise NoReply(first_line(error)) from None
            except (openai.APIError, ValueError, TypeError, AttributeError, LookupError) as error:
                last = f"{type(error).__name__}: {first_line(error)}"
        raise Garbled(last)


class Pace:
    """Lets requests pass at a rate; 0: as they come. Safe to share between threads."""

    def __init__(self, per_minute: float):
        self.pause = 60 / per_minute if per_minute else 0.0
        self.next = 0.0
        self.lock = threading.Lock()

    def wait(self, stop: threading.Event | None = None) -> None:
        """Returns when it is one's turn, or early when `stop` is set."""
        with self.lock:
            now = time.monotonic()
            turn = max(self.next, now)
            self.next = turn + self.pause
        _sleep(turn - now, stop)


def is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that cannot be
        return False


def first_line(error: BaseException) -> str:
    return " ".join((str(error).strip() or type(error).__name__).split())[:300]


def _of_status(error: Any) -> ChatError:
    status, line = error.status_code, first_line(error)
    if status in REFUSED:
        return Refused(line)
    if (status in PASSING or status >= 500) and error.code != NO_MONEY:
        return Busy(line)
    return Denied(line, status)


def said(reply: Any) -> Said:
    """What a reply of the client says. Raises what the caller takes for a garbled reply."""
    if isinstance(reply, str):
        raise ValueError(f"text that is no JSON: {' '.join(reply.split())[:100]!r}")
    if not isinstance(reply.choices, list) or not reply.choices:
        raise ValueError(f"a reply without choices: {_short(reply)}")
    choice, usage = reply.choices[0], reply.usage
    text, reason = choice.message.content, choice.finish_reason
    return Said(
        whole_text(text) if isinstance(text, str) and reason != "content_filter" else None,
        reason,
        reply.model if isinstance(reply.model, str) else "",
        _count(usage, "prompt_tokens"),
        _count(usage, "completion_tokens"),
    )


def whole_text(text: str) -> str:
    """Without halves of surrogate pairs, which no file takes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _count(usage: Any, name: str) -> int | None:
    value = getattr(usage, name, None)
    return value if type(value) is int else None


def _sleep(seconds: float, stop: threading.Event | None) -> None:
    if stop:
        stop.wait(seconds)
    else:
        time.sleep(seconds)


def _short(reply: Any) -> str:
    return " ".join(str(reply.model_dump(exclude_none=True)).split())[:200]
