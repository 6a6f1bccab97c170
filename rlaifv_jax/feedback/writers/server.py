"""A language model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, a public one), by the `openai` client.

The key is taken from OPENAI_API_KEY. A request that fails is sent again with growing pauses, a bounded number of times;
then the run stops, and goes on behind what is finished when it is started again. What the server refuses for good, such
as a prompt that is too long, becomes an error of that one record.
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


class ServerWriter:
    """See `Writer`. Texts depend on the server, too, which need not repeat itself."""

    def __init__(self, options: WriterOptions, seed: int, key: str):
        self.options, self.seed, self.key = options, seed, key
        named = ("model", "temperature", "top_p", "max_new_tokens")
        self.settings = {**{name: getattr(options, name) for name in named}, "seed": seed}
        self.pace = Pace(options.requests_per_minute)
        self.broken: UserError | None = None

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
        return ahead(lambda one: (one[0], self._ask(one[1], self.seed + attempt)), asked, threads=many, most=2 * many)

    def _ask(self, prompt: str, seed: int) -> Written:
        """What one thread does; when one gives up, the others need not begin."""
        if self.broken:
            raise self.broken
        try:
            return self._patiently(prompt, seed)
        except UserError as error:
            self.broken = error
            raise

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
            except (openai.APIError, ValueError, TypeError, AttributeError, IndexError) as error:
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
        choice = reply.choices[0]
        text = choice.message.content
        if not isinstance(text, str):
            raise ValueError("the message has no text")
        return Written(text, complete=choice.finish_reason != "length")


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


def _first_line(error: BaseException) -> str:
    return " ".join((str(error).strip() or type(error).__name__).split())[:300]
