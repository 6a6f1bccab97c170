"""What decides the content of a file, kept beside it, and compared before anything is added to it."""

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from rlaifv_jax.errors import UserError, shortened
from rlaifv_jax.places import is_remote, put, scratch

Settings = Mapping[str, Any]
PARTIAL = ".partial"
PATIENCE = 600.0  # seconds until the first process of a job must have left its settings
POLL = 0.2  # seconds
POLL_CLOUD = 2.0  # where asking costs


def plain(settings: Settings) -> dict[str, Any]:
    """As they come back from JSON."""
    return json.loads(json.dumps(dict(settings), default=str))


def compare(settings: Settings, file: Path, place: Path) -> None:
    """See that `file` holds these settings. Raises `UserError` naming the first that differs."""
    try:
        there = json.loads(file.read_text())
    except FileNotFoundError:
        raise UserError(f"{place} exists already; remove it, or choose another output") from None
    except (OSError, ValueError):
        there = None
    if not isinstance(there, dict):
        raise UserError(f"{file}, which says what {place} holds, is damaged; bring it back, or remove both")
    for key, value in settings.items():
        if there.get(key) != value:
            was, now = (shortened(str(x)) for x in (there.get(key), value))
            raise UserError(
                f"{place} belongs to a run with another {key} ({was}; now {now}); remove it, or choose another output"
            )


def write_whole(path: Path, pieces: Iterable[str]) -> None:
    """Whole or not at all."""
    partial = scratch("whole") / path.name if is_remote(path) else path.with_name(path.name + PARTIAL)
    with open(partial, "w", encoding="utf-8") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())
    put(partial, path)


def wait_for(there: Callable[[], bool], place: Path, patience: float = math.inf) -> None:
    """Return once `there()` holds, which another process sees to at `place`. Raises `UserError` after `patience` s."""
    started = time.monotonic()
    while not there():
        if time.monotonic() - started > patience:
            raise UserError(f"{place} is not shared by all processes; use gs://… or a network disk")
        time.sleep(POLL_CLOUD if is_remote(place) else POLL)


def is_partial(path: Path) -> bool:
    """Whether a kill has left it from `write_whole`."""
    return path.name.endswith(PARTIAL)
