"""Where the time of a run goes: steps, waiting for data, checkpoints, evaluations, and what restarts cost."""

import contextlib
import json
import time
from collections.abc import Iterator

import jax
import numpy as np
from etils import epath

_started = time.time()  # of this process: the file is imported where a command begins
SLOW = 0.05  # share of a step that the slowest host waits for data, above which a person should know


def started() -> float:
    """When this process started, or what it does now, see `start_again`; seconds since 1970."""
    return _started


def start_again() -> None:
    """A run begins in a process that has done something else before."""
    global _started
    _started = time.time()


def first_start(output_dir: epath.Path) -> float:
    """When the first process of a run started, in seconds since 1970; kept in OUTPUT_DIR/started.json."""
    file = output_dir / "started.json"
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # not there, or torn by a kill
        return float(json.loads(file.read_text())["time"])
    file.write_text(json.dumps({"time": _started}))
    return _started


class Clock:
    """Seconds since the last line of timing.jsonl, by what they were spent on.

    useful: seconds that earlier parts of the run spent in the steps that this one goes on from.
    """

    def __init__(self, began: float, useful: float):
        self.began, self.useful = began, useful
        self._begin_line()

    def _begin_line(self) -> None:
        self.line = time.perf_counter()
        self.paused: dict[str, float] = {"checkpoint": 0.0, "evaluation": 0.0}

    @contextlib.contextmanager
    def pause(self, reason: str) -> Iterator[None]:
        """Around a checkpoint or an evaluation: steps stand still."""
        started = time.perf_counter()
        yield
        self.paused[reason] += time.perf_counter() - started

    def read(self, steps: int, waits: np.ndarray) -> dict[str, float]:
        """The values of a line for the last `steps` steps, without pauses; begins the next line.

        waits: float[processes], seconds for which each of them waited for the data of these steps.
        """
        seconds = time.perf_counter() - self.line - sum(self.paused.values())
        waited = float(waits.max())
        self.useful += max(seconds - waited, 0.0)
        since = time.time() - self.began
        values = {
            "seconds_per_step": seconds / steps,
            "data_wait_per_step": waited / steps,
            "checkpoint_seconds": self.paused["checkpoint"],
            "evaluation_seconds": self.paused["evaluation"],
            "useful_seconds": self.useful,
            "seconds_since_first_start": since,
            "goodput": self.useful / since if since > 0 else 0.0,
        }
        if len(waits) > 1:
            values["slowest_process"] = float(waits.argmax())
        self._begin_line()
        return values

    def straggler(self, line: dict[str, float]) -> str:
        """What to say of a line if one host makes the others wait; else nothing."""
        wait, step = line["data_wait_per_step"], line["seconds_per_step"]
        if "slowest_process" not in line or wait < SLOW * step:
            return ""
        return (
            f"process {line['slowest_process']:.0f} waits {wait:.2f} s of a step's {step:.2f} s for data, and all "
            "others wait with it; see data.workers, and the disk of that host"
        )


def memory() -> dict[str, float]:
    """The most that a device of this process has held, in GiB and as a share; nothing where they do not tell."""
    stats = [found for device in jax.local_devices() if (found := device.memory_stats())]
    if not stats or any("peak_bytes_in_use" not in each or not each.get("bytes_limit") for each in stats):
        return {}
    fullest = max(stats, key=lambda each: each["peak_bytes_in_use"] / each["bytes_limit"])
    peak = fullest["peak_bytes_in_use"]
    return {"hbm_peak_gib": peak / 2**30, "hbm_peak_share": peak / fullest["bytes_limit"]}
