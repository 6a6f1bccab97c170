"""Numbers for /metrics, in the text format of Prometheus."""

from collections.abc import Callable

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

SECONDS = (0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)  # that requests are counted below
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

prometheus_client.disable_created_metrics()  # when each was made, which is when the server began


class Counters:
    """Of one server. Safe to share between threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("rlaifv_requests", "requests that ended", ["status"], registry=self.registry)
        self.seconds = Histogram(
            "rlaifv_request_seconds",
            "from the first byte of a request to the last of its reply",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.prompt_tokens = self._counter("prompt_tokens", "positions of prompts, pictures included")
        self.completion_tokens = self._counter("completion_tokens", "tokens written")
        self.answers = self._counter("answers", "answers written to their end")
        self.cancelled = self._counter("answers_cancelled", "answers that nobody waited for any more")
        self.hits = self._counter("prefix_cache_hits", "prompts found in the prefix cache")
        self.misses = self._counter("prefix_cache_misses", "prompts computed; those of beams aside")
        self.shared = self._counter("prefix_shared", "further answers to a prompt of the same request")

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"rlaifv_{name}", text, registry=self.registry)

    def watch(self, name: str, text: str, now: Callable[[], float]) -> None:
        """A number that is asked for whenever somebody looks, and may shrink."""
        Gauge(f"rlaifv_{name}", text, registry=self.registry).set_function(now)

    def text(self) -> bytes:
        """What /metrics says."""
        return prometheus_client.generate_latest(self.registry)
