"""Fair clocks: contenders take turns, medians count, and every result says where it comes from.

A case is one JSON object:

    name            what was timed
    ours_s          median wall seconds of a call of this project's code
    peers           {peer: median wall seconds}
    ratio_to_best_peer, cpu_ratio_to_best_peer
                    fastest peer ÷ ours, in wall seconds and in CPU seconds of the process (all threads)
    rounds          {contender: {"wall_s": [...], "cpu_s": [...], "first_s": seconds}}; the first call, which
                    compiles, is in no median
    setting         sizes and options of the case
    versions, hardware
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlaifv_jax import versions as installed

OURS = "ours"
LIBRARIES = ("jax", "jaxlib", "flax", "torch", "transformers", "trl", "torchvision", "pillow", "numpy")
COLUMNS = ("wall", "fastest", "slowest", "CPU", "first", "wall/ours", "CPU/ours")
REST = 0.05  # seconds between calls, for the threads of the last contender to fall asleep


@dataclass
class Times:
    """Seconds of one contender's calls."""

    first: float
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def limit_cores(count: int) -> int:
    """Keep this process on `count` cores (0: all it may use); returns their number.

    Call it before JAX and PyTorch are first used: XLA sizes its thread pool by the cores a process may run on.
    PyTorch gets as many threads.
    """
    import torch

    allowed = sorted(os.sched_getaffinity(0))
    if count:
        os.sched_setaffinity(0, allowed[:count])
        allowed = allowed[:count]
    torch.set_num_threads(len(allowed))
    return len(allowed)


def interleave(calls: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 1) -> dict[str, Times]:
    """Call every contender once, then `warm_up` + `rounds` times in turns: A B C A B C …

    A call returns when its work is finished. What happens between calls is in no clock.
    """
    times = {name: Times(_clock(call)[0]) for name, call in calls.items()}
    for number in range(warm_up + rounds):
        for name, call in calls.items():
            time.sleep(REST)
            wall, cpu = _clock(call)
            if number >= warm_up:
                times[name].wall.append(wall)
                times[name].cpu.append(cpu)
    return times


def _clock(call: Callable[[], Any]) -> tuple[float, float]:
    """Wall seconds and CPU seconds of all threads."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def case(name: str, times: Mapping[str, Times], setting: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object of one case. `times` must have OURS and at least one peer."""
    wall = {key: statistics.median(value.wall) for key, value in times.items()}
    cpu = {key: statistics.median(value.cpu) for key, value in times.items()}
    peers = [key for key in times if key != OURS]
    return {
        "name": name,
        "ours_s": wall[OURS],
        "peers": {key: wall[key] for key in peers},
        "ratio_to_best_peer": min(wall[key] for key in peers) / wall[OURS],
        "cpu_ratio_to_best_peer": min(cpu[key] for key in peers) / cpu[OURS],
        "rounds": {
            key: {"wall_s": value.wall, "cpu_s": value.cpu, "first_s": value.first} for key, value in times.items()
        },
        "setting": dict(setting),
        "versions": versions(),
        "hardware": hardware(),
    }


def versions() -> dict[str, str]:
    """Installed versions of the libraries that matter, and Python's."""
    return {"python": platform.python_version(), **installed.versions(LIBRARIES)}


def hardware() -> dict[str, Any]:
    """CPU model, cores this process may use, devices of JAX."""
    import jax

    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "jax_devices": [device.device_kind for device in jax.devices()],
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _cpuinfo() -> list[str]:
    file = Path("/proc/cpuinfo")
    return file.read_text().splitlines() if file.exists() else []


def table(cases: Sequence[Mapping[str, Any]]) -> str:
    """What a reader wants to see: medians, spread, and how many times as long as ours everybody takes."""
    lines = []
    for entry in cases:
        rounds = entry["rounds"]
        lines.append(entry["name"])
        lines.append(f"  {'':24}" + "".join(f"{title:>10}" for title in COLUMNS))
        ours = {key: statistics.median(rounds[OURS][key]) for key in ("wall_s", "cpu_s")}
        for name, times in rounds.items():
            wall, cpu = statistics.median(times["wall_s"]), statistics.median(times["cpu_s"])
            lines.append(
                f"  {name:24}{_seconds(wall)}{_seconds(min(times['wall_s']))}{_seconds(max(times['wall_s']))}"
                f"{_seconds(cpu)}{_seconds(times['first_s'])}{wall / ours['wall_s']:>10.2f}{cpu / ours['cpu_s']:>10.2f}"
            )
        lines.append(f"  {', '.join(f'{key} {value}' for key, value in entry['setting'].items())}")
    if cases:
        where, libraries = cases[-1]["hardware"], cases[-1]["versions"]
        lines.append(f"{where['cpu']}, {where['cores']} cores; " + ", ".join(f"{k} {v}" for k, v in libraries.items()))
    return "\n".join(lines)


def _seconds(value: float) -> str:
    return f"{value * 1e3:>8.1f}ms" if value < 1 else f"{value:>9.2f}s"


def report(cases: Sequence[Mapping[str, Any]], file: Path | None) -> None:
    """Print the table; write the JSON list where a file is named."""
    print(table(cases))
    if file is not None:
        file.write_text(json.dumps(list(cases), indent=1) + "\n")
