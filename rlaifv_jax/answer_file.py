"""A file of records that grows while several processes work on it, and survives a kill at any time.

Until everything is there, finished questions are appended to OUTPUT.parts/PROCESS.jsonl, in any order, a line each.
Then the first process writes OUTPUT, in the order of the questions, and removes the parts. What it holds does not
depend on who did what and when.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaifv_jax.errors import UserError

Record = dict[str, Any]
Settings = Mapping[str, Any]
PATIENCE = 600.0  # seconds until the first process must have left its settings
POLL = 0.5


def is_complete(output: str, settings: Settings) -> bool:
    """Whether `output` is there, finished with these settings (or with these and others that are not given).

    Raises `UserError` where it is there without them, or can never be.
    """
    if "://" in output:
        raise UserError(f"{output}: answers are appended, which needs a disk; copy the file to the cloud afterwards")
    if not Path(output).exists():
        return False
    _compare(_plain(settings), _beside(Path(output)), Path(output))
    return True


class AnswerFile:
    """The answers of one run.

    Args:
      output: file to write, JSON lines; one JSON array if its name ends in .json.
      settings: everything that decides the answers. Parts of a run with other settings are refused.
      questions: how many.
      process, processes: this one's number, and of how many; all share the directory of `output`.

    `done` holds the indices of finished questions.

    Raises:
      UserError: `output` cannot be written or is not shared, or its parts were made with other settings.
    """

    def __init__(self, output: str, settings: Settings, questions: int, process: int = 0, processes: int = 1):
        self.output, self.questions = Path(output), questions
        self.process, self.processes = process, processes
        self.parts = Path(f"{output}.parts")
        self.settings = _plain(settings)
        kept = self.parts / "settings.json"
        try:
            if process == 0:
                self.parts.mkdir(parents=True, exist_ok=True)
                if not kept.exists():
                    _write(kept, json.dumps(self.settings, indent=2))
            self._wait_for(lambda: kept.exists() or self.output.exists(), PATIENCE)
            self.done = set(range(questions))  # unless the others have finished already
            if self.output.exists():
                return
            _compare(self.settings, kept, self.parts)
            self._mark.unlink(missing_ok=True)
            mine = self.parts / f"{process}.jsonl"
            _drop_torn_line(mine)
            self.done = set(self._records())
            self._file = open(mine, "a", encoding="utf-8")  # noqa: SIM115  # open as long as this object
        except OSError as error:
            raise UserError(f"{output} cannot be written: {error.strerror}") from None

    def add(self, index: int, records: Sequence[Record]) -> None:
        """The finished records of a question."""
        self._file.write(json.dumps({"index": index, "records": list(records)}, default=str) + "\n")
        self._file.flush()
        self.done.add(index)

    def finish(self) -> list[Record]:
        """Called when this process has nothing left to do; returns when OUTPUT is complete.

        Returns:
          in the first process all records, in the others none.
        """
        if self.output.exists():
            return []
        self._file.close()
        self._mark.touch()
        if self.process:
            self._wait_for(self.output.exists)
            return []
        marks = [self.parts / f"{number}.done" for number in range(self.processes)]
        self._wait_for(lambda: all(mark.exists() for mark in marks))
        records = self._records()
        if missing := self.questions - len(records):
            raise UserError(f"{self.parts}: {missing} questions are missing; start the same command again")
        ordered = [record for index in sorted(records) for record in records[index]]
        if self.output.suffix == ".json":
            text = json.dumps(ordered)
        else:
            text = "".join(json.dumps(record) + "\n" for record in ordered)
        _write(_beside(self.output), json.dumps(self.settings, indent=2))
        _write(self.output, text)
        shutil.rmtree(self.parts)
        return ordered

    @property
    def _mark(self) -> Path:
        return self.parts / f"{self.process}.done"

    def _records(self) -> dict[int, list[Record]]:
        """Finished questions of all processes; the torn last line of a killed one is left out."""
        found = {}
        for file in sorted(self.parts.glob("*.jsonl")):
            for line in file.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                    found[entry["index"]] = entry["records"]
        return found

    def _wait_for(self, there: Callable[[], bool], patience: float = float("inf")) -> None:
        started = time.monotonic()
        while not there():
            if time.monotonic() - started > patience:
                raise UserError(f"{self.output}: its directory is not shared by all processes; use a network disk")
            time.sleep(POLL)


def _compare(settings: Settings, file: Path, place: Path) -> None:
    """See that `file` holds these settings."""
    try:
        there = json.loads(file.read_text())
    except (OSError, ValueError):
        raise UserError(f"{place} exists already; remove it, or choose another output") from None
    for key, value in settings.items():
        if there.get(key) != value:
            raise UserError(
                f"{place} belongs to a run with another {key} ({_short(there.get(key))}; now {_short(value)}); "
                "remove it, or choose another output"
            )


def _beside(output: Path) -> Path:
    """Where the settings of a finished file are."""
    return Path(f"{output}.settings.json")


def _plain(settings: Settings) -> dict[str, Any]:
    """As they come back from JSON."""
    return json.loads(json.dumps(dict(settings), default=str))


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _drop_torn_line(path: Path) -> None:
    """A kill may have cut the last line."""
    if path.exists():
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        if end < len(data):
            with open(path, "r+b") as file:
                file.truncate(end)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"
