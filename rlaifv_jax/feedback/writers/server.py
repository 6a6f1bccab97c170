"""A language model behind a server, see `rlaifv_jax.server_requests`."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rlaifv_jax.feedback.writers.common import WriterOptions, Written
from rlaifv_jax.server_requests import Failed, ServerRequests, nothing_said


class ServerWriter:
    """See `Writer`. Texts depend on the server, too, which need not repeat itself."""

    def __init__(self, options: WriterOptions, seed: int):
        self.options, self.seed = options, seed
        named = ("model", "temperature", "top_p", "max_new_tokens")
        self.settings = {**{name: getattr(options, name) for name in named}, "seed": seed}

    def load(self) -> Mapping[str, Any]:
        self.requests = ServerRequests(self.options.line)
        return {}

    def write(self, asked: Iterable[tuple[Any, str]], attempt: int = 0) -> Iterator[tuple[Any, Written]]:
        for tag, found in self.requests.results(asked, lambda prompt: self._request(prompt, self.seed + attempt)):
            yield tag, Written("", error=found.error) if isinstance(found, Failed) else found

    def _request(self, prompt: str, seed: int) -> Written | Failed:
        options = self.options
        said = self.requests.server.ask(
            [{"role": "user", "content": prompt}],
            model=options.model,
            temperature=options.temperature,
            top_p=options.top_p,
            max_tokens=options.max_new_tokens,
            seed=seed,
        )
        if said.text is None:
            return nothing_said(said)
        return Written(said.text, complete=said.finish_reason != "length")
