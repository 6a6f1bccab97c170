"""The output of a stage: numbered files in a directory, each written by one process, whole or not at all.

    DIR/00000.jsonl, …       finished shards, their records in the order of the units they belong to
    DIR/manifest.json        what decides the records, and what is noted beside that
    DIR/speed.0.json         how fast process 0 was, which decides nothing
    DIR/parts/00003.jsonl    the journal of a shard that is being worked on

A shard is cut into units, the pieces of work that a kill can lose. What a shard holds depends on its units alone.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaifv_jax.errors import UserError
from rlaifv_jax.places import entries, local, place, refused, remove_tree
from rlaifv_jax.records.lines import files_of
from rlaifv_jax.records.part import Part, Record, in_order, places
from rlaifv_jax.records.settings import PATIENCE, Settings, compare, is_partial, plain, wait_for, write_whole

MANIFEST = "manifest.json"
SPEED = "speed.{}.json"  # by process


class Shards:
    """The shards of one stage, finished and not.

    Args:
      directory: on a disk that all processes share, or in the cloud. settings: what decides the records; a directory
        that was begun with others is refused. notes: kept in the manifest and not compared, such as versions.
        count: of shards.
      process, processes: this one's number, and of how many.

    `same_notes` tells whether the directory was begun with the same notes.

    Raises:
      UserError: the directory cannot be written, or belongs to something else.
    """

    def __init__(
        self,
        directory: str | Path,
        settings: Settings,
        notes: Mapping[str, Any],
        count: int,
        process: int = 0,
        processes: int = 1,
    ):
        self.directory, self.count = place(directory), count
        self.process, self.processes = process, processes
        self.settings = plain({**settings, "shards": count})
        self.manifest = self.directory / MANIFEST
        self.parts = self.directory / "parts"
        try:
            if process == 0:
                self.directory.mkdir(parents=True, exist_ok=True)
                if not self.manifest.exists():
                    if any(not is_partial(file) for file in entries(self.directory)):
                        raise UserError(f"{directory} holds something else; remove it, or choose another output_dir")
                    write_whole(self.manifest, [json.dumps({**self.settings, "notes": plain(notes)}, indent=2)])
            wait_for(self.manifest.exists, self.directory, PATIENCE)
            compare(self.settings, self.manifest, self.directory)
            self.same_notes = json.loads(self.manifest.read_text()).get("notes") == plain(notes)
        except OSError as error:
            raise refused(f"{directory} cannot be written", error, "choose another place") from None

    def file(self, number: int) -> Path:
        return self.directory / f"{number:05}.jsonl"

    @property
    def left(self) -> list[int]:
        """Numbers of the unfinished shards that are this process's to write, dealt by number."""
        return [n for n in range(self.process, self.count, self.processes) if not self.file(n).exists()]

    @property
    def finished(self) -> bool:
        return all(self.file(number).exists() for number in range(self.count))

    def keep(self, settings: Settings) -> None:
        """Note more that decides the records, as it becomes known. Raises `UserError` where the manifest has others."""
        found = plain(settings)
        there = json.loads(self.manifest.read_text())
        if self.process == 0 and not there.keys() & found.keys():
            write_whole(self.manifest, [json.dumps({**there, **found}, indent=2)])
        wait_for(lambda: json.loads(self.manifest.read_text()).keys() >= found.keys(), self.directory)
        compare(found, self.manifest, self.directory)

    def begin(self, number: int, units: int) -> "Shard":
        """Go on with an unfinished shard."""
        self.parts.mkdir(exist_ok=True)
        return Shard(self.file(number), self.parts / f"{number:05}.jsonl", units)

    def note_speed(self, records: int, seconds: float) -> None:
        """Keep how many records this process has made in a time, for `records_per_second`; they tell nothing of it."""
        if records:
            file = self.directory / SPEED.format(self.process)
            write_whole(file, [json.dumps([*_runs(file), {"records": records, "seconds": seconds}])])

    def wait(self) -> None:
        """Return when the shards of all processes are there."""
        wait_for(lambda: self.finished, self.directory)
        if self.process == 0:
            remove_tree(self.parts)


class Shard:
    """A shard that is being written: a context that gives its lock back. `done` holds the numbers of finished units."""

    def __init__(self, output: Path, journal: Path, units: int):
        self.output, self.journal, self.units = output, journal, units
        self._part = Part(journal, output)
        self.done = set(self._places())

    def __enter__(self) -> "Shard":
        return self

    def __exit__(self, *_: object) -> None:
        self._part.close()

    def add(self, unit: int, records: Sequence[Record]) -> None:
        self._part.add(unit, records)
        self.done.add(unit)

    def finish(self) -> None:
        """Put the records of all units in order."""
        self._part.flush()
        found = self._places()
        if missing := self.units - len(found):
            raise UserError(f"{self.journal}: {missing} units are missing; start the same command again")
        write_whole(self.output, (json.dumps(record) + "\n" for record in in_order(found)))
        for file in files_of(self.journal):
            file.unlink()

    def _places(self) -> dict[int, tuple[Path, int]]:
        return places(files_of(self.journal), lambda unit, records: 0 <= unit < self.units)


def read_shards(directory: str | Path) -> Iterator[Record]:
    """The records of a finished stage."""
    for file in finished_files(directory) or []:
        with open(local([file])[0], encoding="utf-8") as stream:
            yield from map(json.loads, stream)


def records_per_second(directory: str | Path) -> float | None:
    """Of all processes that have worked on a stage together, over all their runs that were not killed; None where that
    is not known."""
    speed = 0.0
    for file in place(directory).glob(SPEED.format("*")):
        if runs := _runs(file):
            speed += sum(run["records"] for run in runs) / sum(run["seconds"] for run in runs)
    return speed or None


def _runs(file: Path) -> list[dict[str, float]]:
    """What `Shards.note_speed` has kept; nothing where the file is not there or damaged."""
    try:
        runs = json.loads(file.read_text())
        return runs if all(run["seconds"] > 0 and run["records"] > 0 for run in runs) else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def finished_files(directory: str | Path) -> list[Path] | None:
    """The files of a finished stage, in order; None for a directory that no stage has written.

    Raises:
      UserError: the stage was never finished.
    """
    manifest = place(directory) / MANIFEST
    if not manifest.is_file():
        return None
    try:
        count = json.loads(manifest.read_text())["shards"]
        files = [place(directory) / f"{number:05}.jsonl" for number in range(count)]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{manifest} is damaged; remove that directory to make it anew") from None
    there = sum(file.exists() for file in files)
    if there < count:
        raise UserError(f"{directory} is not finished: {there} of {count} shards; run its stage again first")
    return files
