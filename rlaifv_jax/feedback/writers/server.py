"""A language model behind a server, see `rlaifv_jax.chat_server`.

When retries do not help, the run stops, and goes on behind what is finished when it is started again. What the server
refuses for good, such as a prompt that is too long, becomes an error of that one record; but if it takes none of the
first prompts, the run stops, since the fault is hardly theirs.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rlaifv_jax.chat_server import FIRST, Busy, ChatError, ChatServer, Denied, Refused
from rlaifv_jax.data.ahead import ahead
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.writers.common import WriterOptions, Written


class ServerWriter:
    """See `Writer`. Texts depend on the server, too, which need not repeat itself."""

    def __init__(self, options: WriterOptions, seed: int):
        self.options, self.seed, self.key = options, seed, options.key
        named = ("model", "temperature", "top_p", "max_new_tokens")
        self.settings = {**{name: getattr(options, name) for name in named}, "seed": seed}
        self.broken: UserError | None = None
        self.taken = False  # whether the server has answered any prompt yet

    def load(self) -> Mapping[str, Any]:
        options = self.options
        self.server = ChatServer(
            options.server,
            requests_per_minute=options.requests_per_minute,
            retries=options.retries,
            timeout=options.timeout,
            setting=f"{self.key}.server",
        )
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
            return self._request(prompt, seed)
        except UserError as error:
            self.broken = self.broken or error
            return None

    def _request(self, prompt: str, seed: int) -> Written:
        options = self.options
        try:
            said = self.server.ask(
                [{"role": "user", "content": prompt}],
                model=options.model,
                temperature=options.temperature,
                top_p=options.top_p,
                max_tokens=options.max_new_tokens,
                seed=seed,
            )
        except Refused as error:
            return Written("", error=f"the server refuses it: {error}")
        except (Denied, Busy) as error:
            raise UserError(f"{self.key}.server: {options.server}: {error}") from None
        except ChatError as error:
            raise UserError(
                f"{self.key}.server: {options.server} gives no usable reply after {options.retries} retries ({error}); "
                "start the same command again when it does"
            ) from None
        if said.text is None:
            return Written("", error=f"the server writes nothing (finish_reason {said.finish_reason!r})")
        return Written(said.text, complete=said.finish_reason != "length")
