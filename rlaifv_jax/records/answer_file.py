"""A file of records that grows while several processes work on it, and survives a kill at any time.

Until everything is there, finished questions are appended to OUTPUT.parts/PROCESS.jsonl, in any order, a line each.
Then the first process writes OUTPUT, in the order of the questions, and removes the parts. What it holds does not
depend on who did what and when.
"""

import json
from collections import ChainMap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rlaifv_jax.errors import UserError
from rlaifv_jax.places import local, place, refused, remove_tree
from rlaifv_jax.records.part import Part, Record, in_order, places
from rlaifv_jax.records.settings import PATIENCE, Settings, compare, plain, wait_for, write_whole


def is_complete(output: str, settings: Settings) -> bool:
    """Whether `output` is there, finished with these settings (and perhaps others).

    Raises `UserError` where it is there without them, or can never be.
    """
    file = place(output)
    try:
        if output.endswith("/") or file.is_dir():
            raise UserError(f"{output} is a directory; give the name of a file")
        if not file.exists():
            return False
    except OSError as error:
        raise refused(f"{output} cannot be written", error, "choose another place") from None
    compare(plain(settings), _beside(file), file)
    remove_tree(_parts(output))  # of a run that was killed at its very end
    return True


class AnswerFile:
    """The answers of one run.

    Args:
      output: file to write, JSON lines; one JSON array if its name ends in .json.
      settings: what decides the answers. Parts of a run with other settings are refused.
      questions: how many. answers: to each of them.
      process, processes: this one's number, and of how many; all share the directory of `output`.

    `done` holds the indices of finished questions.

    Raises:
      UserError: `output` cannot be written or is not shared, or its parts were made with other settings.
    """

    def __init__(
        self, output: str, settings: Settings, questions: int, answers: int, process: int = 0, processes: int = 1
    ):
        self.output, self.parts = place(output), _parts(output)
        self.questions, self.answers = questions, answers
        self.process, self.processes = process, processes
        self.settings: dict[str, Any] = {}
        try:
            if process == 0:
                self.parts.mkdir(parents=True, exist_ok=True)
            self.keep("settings", settings)
            if self.output.exists():  # the others have finished already
                self.done = set(range(questions))
                return
            self._part = Part(self.parts / f"{process}.jsonl", self.output)
            self._mark(process).unlink(missing_ok=True)
            self.done = set(self._places())
        except OSError as error:
            raise refused(f"{output} cannot be written", error, "choose another place") from None

    def keep(self, name: str, settings: Settings) -> None:
        """Note more that decides the answers, as it becomes known. Raises `UserError` where the parts have others."""
        found, file = plain(settings), self.parts / f"{name}.json"
        self.settings |= found
        if self.process == 0 and not file.exists():
            write_whole(file, [json.dumps(found, indent=2)])
        known = self.parts / "settings.json"  # the first thing that the first process writes
        wait_for(lambda: known.exists() or self.output.exists(), self.output, PATIENCE)
        wait_for(lambda: file.exists() or self.output.exists(), self.output)
        if not self.output.exists():
            compare(found, file, self.parts)

    def add(self, index: int, records: Sequence[Record]) -> None:
        """The finished records of a question."""
        self._part.add(index, records)
        self.done.add(index)

    def close(self) -> None:
        """Let another run go on."""
        self._part.close()

    def finish(self) -> None:
        """Called when this process has nothing left to do; returns when OUTPUT is complete."""
        if self.output.exists():
            return
        self._part.close()
        self._mark(self.process).write_text("")
        if self.process:
            wait_for(self.output.exists, self.output)
            return
        if self.processes > 1:  # marks may be left over from a run that was killed
            marks = [self._mark(number) for number in range(self.processes)]
            wait_for(
                lambda: all(mark.exists() for mark in marks) and len(self._places()) == self.questions, self.output
            )
        elif missing := self.questions - len(self._places()):
            raise UserError(f"{self.parts}: {missing} questions are missing; start the same command again")
        kept = [json.loads(file.read_text()) for file in sorted(self.parts.glob("*.json"))]
        write_records(self.output, in_order(self._places()), dict(ChainMap(*reversed(kept))))
        remove_tree(self.parts)

    def _places(self) -> dict[int, tuple[Path, int]]:
        """Of all processes."""

        def ours(index: int, records: list[Record]) -> bool:
            return len(records) == self.answers and 0 <= index < self.questions

        return places(sorted(self.parts.glob("*.jsonl")), ours)

    def _mark(self, process: int) -> Path:
        """Says that a process has nothing left to do."""
        return self.parts / f"{process}.done"


def read_records(output: str) -> Iterator[Record]:
    """Of a finished file."""
    with open(local([place(output)])[0], encoding="utf-8") as file:
        yield from json.load(file) if output.endswith(".json") else map(json.loads, file)


def write_records(output: Path, records: Iterator[Record], settings: Settings) -> None:
    """A whole file of records, and beside it what decides them; then it `is_complete`."""
    write_whole(_beside(output), [json.dumps(plain(settings), indent=2)])
    write_whole(output, _as_array(records) if output.suffix == ".json" else _as_lines(records))


def _as_lines(records: Iterator[Record]) -> Iterator[str]:
    return (json.dumps(record) + "\n" for record in records)


def _as_array(records: Iterator[Record]) -> Iterator[str]:
    before = "["
    for record in records:
        yield before + json.dumps(record)
        before = ",\n"
    yield "]\n" if before != "[" else "[]\n"


def _parts(output: str) -> Path:
    return place(f"{output}.parts")


def _beside(output: Path) -> Path:
    """Where the settings of a finished file are."""
    return place(f"{output}.settings.json")
