"""An OpenAI-compatible server over real HTTP that answers from a function, and misbehaves when told to."""

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.http_server import running

Reply = Callable[[str], str]
Tokens = list[tuple[str, float]]  # and their log-probabilities, the likeliest first


@dataclass
class Server:
    """answer: prompt → text. weigh: question, picture → what its first token may be, instead of `answer`; told where
    the request asks for log-probabilities, as many as it asks for. lives: requests that it replies to before it drops
    all others; None: it does not die. faults: what the next requests get instead: a status, 'garbage', 'empty',
    'silent', 'hang', 'drop' (nothing at all), 'other' (by another model), 'two', which is a list of two, 'mumble',
    which is no list, 'unweighed' (no log-probabilities) or 'overweight' (some that are none).

    `requests` holds the bodies that came in, `keys` their authorization, `together` the most that were answered at
    once.
    """

    answer: Reply = str
    weigh: Callable[[str, bytes | None], Tokens] | None = None
    faults: list[Any] = field(default_factory=list)
    finish: str = "stop"
    pause: float = 0.0
    lives: int | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    together: int = 0
    url: str = ""
    _now: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, body: dict[str, Any]) -> tuple[int, bytes] | None:
        """Status and body; None for nothing."""
        with self._lock:
            self.requests.append(body)
            self._now += 1
            self.together = max(self.together, self._now)
            fault = self.faults.pop(0) if self.faults else None
            if self.lives is not None and len(self.requests) > self.lives:
                fault = "drop"
        time.sleep(self.pause)
        with self._lock:
            self._now -= 1
        if fault == "drop":
            return None
        if isinstance(fault, int):
            return fault, json.dumps({"error": {"message": f"fault {fault}"}}).encode()
        if fault == "garbage":
            return 200, b"{not json"
        if fault == "hang":
            time.sleep(3)
        question, picture = read_message(body["messages"][-1]["content"])
        tokens = self.weigh(question, picture) if self.weigh else []
        text = tokens[0][0] if tokens else self.answer(question)
        if fault == "two":
            text = "- one?\n- two?"
        if fault == "mumble":
            text = "hm."
        said = None if fault == "silent" else text
        choice: dict[str, Any] = {
            "index": 0,
            "message": {"role": "assistant", "content": said},
            "finish_reason": self.finish,
        }
        if tokens and body.get("logprobs") and fault != "unweighed":
            shift = 5.0 if fault == "overweight" else 0.0
            top = [
                {"token": token, "logprob": value + shift, "bytes": None}
                for token, value in tokens[: body["top_logprobs"]]
            ]
            choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
        return 200, json.dumps(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "other" if fault == "other" else body["model"],
                "choices": [] if fault == "empty" else [choice],
                "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
            }
        ).encode()


def read_message(content: str | list[dict[str, Any]]) -> tuple[str, bytes | None]:
    """Text and picture of a user's message."""
    if isinstance(content, str):
        return content, None
    found = {part["type"]: part[part["type"]] for part in content}
    head, _, data = found["image_url"]["url"].partition(";base64,")
    assert head.startswith("data:image/")
    return found.get("text", ""), base64.b64decode(data, validate=True)


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.keys.add(self.headers["Authorization"])
            reply = server.reply(body)
            if reply is None:
                return
            status, data = reply
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.send_header("retry-after-ms", "10")  # the client's pause before it tries again
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as url:
        server.url = f"{url}/v1"
        yield server
