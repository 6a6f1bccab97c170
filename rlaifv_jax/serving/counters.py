"""Numbers for /metrics, in the text format of Prometheus."""

import threading
from collections import defaultdict
from collections.abc import Mapping

SECONDS = (0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)  # that requests are counted below


class Counters:
    """Only ever grow. Safe to share between threads."""

    def __init__(self) -> None:
        self._counts: dict[str, float] = defaultdict(int)
        self._lock = threading.Lock()

    def add(self, name: str, more: int = 1) -> None:
        with self._lock:
            self._counts[name] += more

    def time(self, seconds: float) -> None:
        """Of a request, from its first byte to the last of its reply; a histogram of Prometheus."""
        with self._lock:
            for limit in SECONDS:
                self._counts[f'request_seconds_bucket{{le="{limit}"}}'] += seconds <= limit
            self._counts['request_seconds_bucket{le="+Inf"}'] += 1
            self._counts["request_seconds_count"] += 1
            self._counts["request_seconds_sum"] += seconds

    def __getitem__(self, name: str) -> float:
        return self._counts[name]

    def text(self, now: Mapping[str, float]) -> str:
        """now: what else there is to tell, which may shrink."""
        with self._lock:
            counts = dict(self._counts)
        lines = []
        kinds: set[str] = set()
        timed = {name: counts.pop(name) for name in list(counts) if name.startswith("request_seconds_")}
        for values, kind in ((dict(sorted(counts.items())), "counter"), (timed, "histogram"), (now, "gauge")):
            for name, value in values.items():
                family = "rlaifv_request_seconds" if kind == "histogram" else "rlaifv_" + name.partition("{")[0]
                if family not in kinds:
                    lines.append(f"# TYPE {family} {kind}")
                    kinds.add(family)
                lines.append(f"rlaifv_{name} {value:.15g}")
        return "\n".join(lines) + "\n"
