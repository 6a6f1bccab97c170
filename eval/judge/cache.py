"""Replies on disk: what was paid for is asked for once."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlaifv_jax.chat_server import Said
from rlaifv_jax.errors import UserError
from rlaifv_jax.places import local, refused
from rlaifv_jax.records.lines import Lines, files_of, lines


@dataclass(frozen=True)
class Known:
    """A reply that the cache holds. earlier: whether it is an earlier run's."""

    said: Said
    earlier: bool


class ReplyCache:
    """A JSONL file, a line for each reply, appended and flushed as it comes (in the cloud: in pieces, see
    `rlaifv_jax.records.lines`). Safe to share between threads.

    What no longer is a whole line of ours, as a kill leaves it at the end, is left out and asked for again. Of two
    lines for the same request the later one counts.

    Args:
      read_only: nothing is made or locked, for a look at what is there.

    Raises:
      UserError: another run has the file open, or it cannot be read or written.
    """

    def __init__(self, path: Path, *, read_only: bool = False):
        self.path = path
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._file: Lines | None = None
        try:
            if not read_only:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = lines(path, path)
            self._known = dict(_entries(path))
        except OSError as error:
            raise refused(f"{path} cannot hold the judge's replies", error, "choose another --output") from None
        except UserError:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._known)

    def __enter__(self) -> "ReplyCache":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def get(self, key: str) -> Known | None:
        with self._lock:
            return self._known.get(key)

    def turn(self, key: str) -> threading.Lock:
        """Held by who asks, so that the same is never asked twice at once and then answered in two ways."""
        with self._lock:
            return self._turns.setdefault(key, threading.Lock())

    def add(self, key: str, request: Mapping[str, Any], said: Said) -> None:
        """request: what the key was made of, for people. Raises `OSError` where the disk is full."""
        if self._file is None:
            raise ValueError(f"{self.path} is not open for writing")
        line = json.dumps({"key": key, "request": dict(request), **asdict(said)})
        with self._lock:
            self._known[key] = Known(said, earlier=False)
            try:
                self._file.write(line)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self.path)) from None

    def close(self) -> None:
        if self._file:
            self._file.close()


def key_of(request: Mapping[str, Any]) -> str:
    """SHA-256 of everything that decides a reply."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _entries(path: Path) -> Iterator[tuple[str, Known]]:
    for part in local(files_of(path)):
        with open(part, "rb") as file:
            for line in file:
                if (entry := _entry(line)) is not None:
                    yield entry


def _entry(line: bytes) -> tuple[str, Known] | None:
    try:
        entry = json.loads(line)
        said = Said(**{name: entry[name] for name in Said.__dataclass_fields__})
        key = entry["key"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    whole = isinstance(key, str) and isinstance(said.text, str | None) and isinstance(said.model, str)
    return (key, Known(said, earlier=True)) if whole else None
