"""A language model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, a public one), by the `openai` client.

The key is taken from OPENAI_API_KEY. A request that fails is sent again with growing pauses, a bounded number of times;
then the run stops, and goes on behind what is finished when it is started again. What the server refuses for good, such
as a prompt that is too long, becomes an error of that one record; but if it takes none of the first prompts, the run
stops, since the fault is hardly theirs.
"""

import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rlaifv_jax.data.ahead import ahead
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.writers.common import WriterOptions, Written

REFUSED = (400, 413, 422)  # of one prompt; other answers of this kind are of all
FIRST = 8  # prompts; if not one of them is taken, something is wrong with all


class ServerWriter:
    """See `Writer`. Texts depend on the server, too, which need not repeat itself."""

    def __init__(self, options: WriterOptions, seed: int):
        self.options, self.seed, self.key = options, seed, options.key
        named = ("model", "temperature", "top_p", "max_new_tokens")
        self.settings = {**{name: getattr(options, name) for name in named}, "seed": seed}
        self.pace = Pace(options.requests_per_minute)
        self.broken: UserError | None = None
        self.taken = False  # whether the server has answered any prompt yet

    def load(self) -> Mapping[str, Any]:
        import openai

        try:
            self.client = openai.OpenAI(
                base_url=self.options.server,
                api_key=os.environ.get("OPENAI_API_KEY") or "none",
                max_retries=self.options.retries,
                timeout=self.options.timeout,
            )
        except (openai.OpenAIError, ValueError, TypeError) as error:
            raise UserError(f"{self.key}.server: {error}") from None
        return {}

    def write(self, asked: Iterable[tuple[Any, str]], attempt: int = 0) -> Iterator[tuple[Any, Written]]:
        many, self.broken = self.options.concurrency, None
        held: list[tuple[Any, Written]] = []  # refusals, as long as nothing was taken

        def ask(one: tuple[Any, str]) -> tuple[Any, Written | None]:
            return one[0], self._ask(one[1], self.seed + attempt)

        def until_broken() -> Iterator[tuple[Any, str]]:
            for one in asked:
                if self.broken:
                    return
                yield one

        # Threads that have an answer already give it, whatever has become of the others.
        for tag, written in ahead(ask, until_broken(), threads=many, most=2 * many):
            if written is None:
                continue
            self.taken = self.taken or written.error is None
            if not self.taken:
                held.append((tag, written))
                if len(held) == FIRST:
                    raise UserError(f"{self.key}: not one of the first {FIRST} prompts is taken: {written.error}")
                continue
            yield from held
            held.clear()
            yield tag, written
        if self.broken:
            raise self.broken
        yield from held

    def _ask(self, prompt: str, seed: int) -> Written | None:
        """What one thread does; when one has given up, the others need not begin."""
        if self.broken:
            return None
        try:
            return self._patiently(prompt, seed)
        except UserError as error:
            self.broken = self.broken or error
            return None

    def _patiently(self, prompt: str, seed: int) -> Written:
        import openai

        options, last = self.options, ""
        for _ in range(1 + options.retries):
            try:
                return self._request(prompt, seed)
            except openai.APIStatusError as error:
                if error.status_code in REFUSED:
                    return Written("", error=f"the server refuses it: {_first_line(error)}")
                raise UserError(f"{self.key}.server: {options.server}: {_first_line(error)}") from None
            except openai.APIConnectionError as error:  # the client has tried again already
                last = _first_line(error)
                break
            except (openai.APIError, ValueError, TypeError, AttributeError, LookupError) as error:
                last = f"{type(error).__name__}: {_first_line(error)}"  # a reply that is none
        raise UserError(
            f"{self.key}.server: {options.server} gives no usable reply after {options.retries} retries ({last}); "
            "start the same command again when it does"
        )

    def _request(self, prompt: str, seed: int) -> Written:
        options = self.options
        self.pace.wait()
        reply = self.client.chat.completions.create(
            model=options.model,
            messages=[{"role": "user", "content": prompt}],
            temperature=options.temperature,
            top_p=options.top_p,
            max_tokens=options.max_new_tokens,
            seed=seed,
        )
        if not isinstance(reply.choices, list) or not reply.choices:
            raise ValueError(f"a reply without choices: {_short(reply)}")
        choice = reply.choices[0]
        text, reason = choice.message.content, choice.finish_reason
        if not isinstance(text, str) or reason == "content_filter":
            return Written("", error=f"the server writes nothing (finish_reason {reason!r})")
        return Written(text, complete=reason != "length")


class Pace:
    """Lets requests pass at a rate; 0: as they come. Safe to share between threads."""

    def __init__(self, per_minute: float):
        self.pause = 60 / per_minute if per_minute else 0.0
        self.next = 0.0
        self.lock = threading.Lock()

    def wait(self) -> None:
        with self.lock:
            now = time.monotonic()
            turn = max(self.next, now)
            self.next = turn + self.pause
        time.sleep(turn - now)


def _short(reply: Any) -> str:
    return " ".join(str(reply.model_dump(exclude_none=True)).split())[:200]


def _first_line(error: BaseException) -> str:
    return " ".join((str(error).strip() or type(error).__name__).split())[:300]
