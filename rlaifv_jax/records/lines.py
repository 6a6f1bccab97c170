"""Lines of JSON that are added one by one, by one writer, and survive a kill at any time.

    DIR/0.jsonl                            on a disk: every line is flushed; locked as long as it is open
    DIR/0.000000.jsonl, 0.000001.jsonl, …  in the cloud, which cannot append: the lines of EVERY seconds each

A kill costs at most the line that is being written, or in the cloud those of the last EVERY seconds.
"""

import json
import os
import threading
from pathlib import Path
from typing import Protocol

from rlaifv_jax.errors import UserError
from rlaifv_jax.places import create, is_remote
from rlaifv_jax.records.lock import lock

EVERY = 30.0


class Lines(Protocol):
    def write(self, line: str) -> None:
        """Add a line, without its end."""

    def flush(self) -> None:
        """Whoever reads now finds all lines."""

    def close(self) -> None:
        """Let another run go on."""


def lines(path: Path, owner: Path) -> Lines:
    """Go on with the lines at `path`; what a kill tore off at their end is dropped. owner: for messages.

    Raises:
      UserError: another run has them open.
      OSError: they cannot be written.
    """
    return CloudLines(path, owner) if is_remote(path) else DiskLines(path, owner)


def files_of(path: Path) -> list[Path]:
    """The files that hold the lines at `path`, in order; none where there are none."""
    if is_remote(path):
        return sorted(path.parent.glob(f"{path.stem}.[0-9][0-9][0-9][0-9][0-9][0-9]{path.suffix}"))
    return [path] if path.exists() else []


class DiskLines:
    def __init__(self, path: Path, owner: Path):
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115  # open as long as this object
        try:
            lock(self._file, owner)
        except UserError:
            self._file.close()
            raise
        self._mend(path)

    def _mend(self, path: Path) -> None:
        """A kill may have cut the last line; where only its end is missing, it still is one."""
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        if end == len(data):
            return
        try:
            json.loads(data[end:])
        except ValueError:
            os.truncate(path, end)
        else:
            self._file.write("\n")
            self._file.flush()

    def write(self, line: str) -> None:
        self._file.write(line + "\n")
        self._file.flush()

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self._file.close()


class CloudLines:
    """A thread writes the pieces; what fails there is raised by whatever is called next."""

    def __init__(self, path: Path, owner: Path):
        self.path, self.owner = path, owner
        there = files_of(path)
        self._next = int(there[-1].stem.rpartition(".")[2]) + 1 if there else 0
        self._waiting: list[str] = []
        self._putting, self._over = threading.Lock(), threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="cloud lines", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        if self._failure:
            raise self._failure
        self._waiting.append(line + "\n")

    def flush(self) -> None:
        if self._failure:
            raise self._failure
        with self._putting:
            count = len(self._waiting)
            if not count:
                return
            piece = self.path.with_name(f"{self.path.stem}.{self._next:06}{self.path.suffix}")
            if not create(piece, "".join(self._waiting[:count]).encode()):  # the nearest thing to a lock
                raise UserError(f"{self.owner}: another run is writing it")
            del self._waiting[:count]
            self._next += 1

    def close(self) -> None:
        if self._over.is_set():
            return
        self._over.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._over.wait(EVERY):
            try:
                self.flush()
            except Exception as error:
                self._failure = error
                return
