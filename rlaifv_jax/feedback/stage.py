"""What every stage has in common: shards in, shards out, resumable, the same however the work is shared or killed."""

import hashlib
import inspect
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import jax
from tqdm import tqdm

from rlaifv_jax.cli import say
from rlaifv_jax.records.lock import only_run
from rlaifv_jax.records.part import Record
from rlaifv_jax.records.shards import Shards, read_shards
from rlaifv_jax.records.source import Input
from rlaifv_jax.versions import versions

Unit = Sequence[Record]  # records that are worked on together, and lost together by a kill
LIBRARIES = ("rlaifv-jax", "jax", "flax", "transformers")


class Stage(Protocol):
    """code: modules that do the work, beside the stage's own."""

    name: str
    code: Sequence[ModuleType]

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides the records, known before anything is loaded."""

    def load(self, source: Input) -> Mapping[str, Any]:
        """Make ready to work; returns what else decides the records, such as a fingerprint of weights."""

    def units(self, shard: int, records: list[Record]) -> list[Unit]:
        """Cut a shard's records into units."""

    def work(self, units: Sequence[Unit], done: set[int]) -> Iterator[tuple[int, list[Record]]]:
        """The records of every unit that is not done, by its number, in any order. What a unit gives must not depend on
        which others are done."""

    def summary(self, records: Iterable[Record]) -> Sequence[str]:
        """Lines for the person at the terminal about all finished records; the first says what there is."""


def run(stage: Stage, source: Input, directory: Path) -> None:
    """Write the shards of a stage that are not there yet, and say what there is.

    Raises:
      UserError: the directory holds something else, or the stage cannot do what it is asked.
    """
    with only_run(directory) if jax.process_index() == 0 else nullcontext():
        _run(stage, source, directory, jax.process_index(), jax.process_count())


def _run(stage: Stage, source: Input, directory: Path, process: int, processes: int) -> None:
    settings = {"stage": stage.name, "input": source.fingerprint, **stage.settings}
    shards = Shards(
        directory, settings, notes((sys.modules[type(stage).__module__], *stage.code)), source.count, process, processes
    )
    if shards.finished:
        if process == 0:
            say(f"{stage.name}: {directory} is complete; nothing to do (remove it to do it again)")
        shards.wait()
        return
    if process == 0 and not shards.same_notes:
        say(f"warning: {directory} was begun with other code or libraries, see its manifest.json")
    if left := shards.left:
        shards.keep(stage.load(source))
        mine = range(process, shards.count, processes)
        bar = tqdm(
            total=sum(source.length(number) for number in mine),
            initial=sum(source.length(number) for number in mine if number not in left),
            unit="record",
            desc=stage.name,
            disable=process > 0,
        )
        started, made = time.perf_counter(), 0
        try:
            with bar:
                for number in left:
                    units, before, count = stage.units(number, source.read(number)), bar.n, source.length(number)
                    with shards.begin(number, len(units)) as shard:
                        for unit, records in stage.work(units, shard.done):
                            shard.add(unit, records)
                            made += len(records)
                            bar.update(before + count * len(shard.done) // len(units) - bar.n)
                        bar.update(before + count - bar.n)
                        shard.finish()
        finally:
            shards.note_speed(made, time.perf_counter() - started)
    shards.wait()
    if process == 0:
        for line in stage.summary(read_shards(directory)):
            say(f"{stage.name}: {line}")


def notes(code: Sequence[ModuleType]) -> dict[str, Any]:
    """What is worth knowing of how records came about, and need not be the same to go on with them."""
    digest = hashlib.sha256()
    for module in code:
        digest.update(inspect.getsource(module).encode())
    return {"code": digest.hexdigest()[:16], "versions": versions(LIBRARIES)}


class Tally(Counter[str]):
    """Counts over the records of a stage, and the first error among them."""

    error = ""

    def see(self, record: Record) -> None:
        self.error = self.error or str(record.get("error") or "")


def told(what: str, counts: Tally) -> list[str]:
    """A line for each of the other counts that is not 0: so many of counts[what] had that happen to them; and the first
    error."""
    lines = [f"{count} of {counts[what]} {what} {how}" for how, count in counts.items() if how != what and count]
    return [*lines, f"the first error: {counts.error}"] if counts.error else lines
