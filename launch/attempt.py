"""Compile, and say in plain numbers when there is not enough memory."""

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from launch.chips import Chip


def attempt(compile_it: Callable[[], Any], chip: Chip, hints: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """(executable, {compile_seconds}), or (None, why it does not fit and `hints` that would help)."""
    started = time.perf_counter()
    try:
        compiled = compile_it()
    except jax.errors.JaxRuntimeError as error:
        reason = shortage(error, chip)
        if reason is None:
            raise
        return None, {
            "fits": False,
            "peak_bytes": None,
            "hbm_bytes": chip.hbm_bytes,
            "reason": reason,
            "hints": list(hints),
        }
    return compiled, {"compile_seconds": time.perf_counter() - started}


def shortage(error: Exception, chip: Chip) -> str | None:
    """What the compiler's out-of-memory error means; None for any other error."""
    found = re.search(r"(?:required for \w[\w ]* \(|Used )([\d.]+)([KMG])\)? (?:exceeds available|of)", str(error))
    if "RESOURCE_EXHAUSTED" not in str(error):
        return None
    if not found:
        return f"out of memory on a chip with {chip.hbm_bytes / 2**30:.2f} GiB"
    needed = float(found[1]) * {"K": 2**10, "M": 2**20, "G": 2**30}[found[2]]
    return f"needs {needed / 2**30:.2f} GiB, {(needed - chip.hbm_bytes) / 2**30:.2f} more than a chip has"
