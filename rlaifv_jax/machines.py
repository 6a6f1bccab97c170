"""On what a run has run: OUTPUT_DIR/machines.json holds an entry for every start. It decides nothing."""

import contextlib
import json
import os
import platform
import time
from collections import Counter
from typing import Any

import jax
from etils import epath

from rlaifv_jax.versions import versions

FILE = "machines.json"
LIBRARIES = ("rlaifv-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "transformers", "numpy")


def note_machine(output_dir: epath.Path, step: int) -> None:
    """Add this start: when, behind which step, devices, processes, versions."""
    starts = read_machines(output_dir) or []
    starts.append(
        {
            "time": round(time.time()),
            "step": step,
            "devices": dict(Counter(device.device_kind for device in jax.devices())),
            "processes": jax.process_count(),
            "cores": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
            "versions": versions(LIBRARIES),
        }
    )
    (output_dir / FILE).write_text(json.dumps(starts, indent=2))


def read_machines(output_dir: epath.Path) -> list[dict[str, Any]] | None:
    """The starts of a run; None where there is no such file, or a kill has torn it."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        found = json.loads((output_dir / FILE).read_text())
        if isinstance(found, list) and all(isinstance(start, dict) for start in found):
            return found
    return None
