"""A journal of finished work: a line for each finished unit, in any order, appended and flushed."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rlaifv_jax.places import local
from rlaifv_jax.records.lines import lines

Record = dict[str, Any]
Valid = Callable[[int, list[Record]], bool]  # whether an index with these records is one of ours


class Part:
    """One process's journal. Only one may have it open; what a kill tore off at its end is dropped.

    In the cloud it is written in pieces, see `rlaifv_jax.records.lines`.

    Args:
      path: of the journal. owner: what it belongs to, for messages.

    Raises:
      UserError: another run has it open.
      OSError: it cannot be written.
    """

    def __init__(self, path: Path, owner: Path):
        self._lines = lines(path, owner)

    def add(self, index: int, records: Sequence[Record]) -> None:
        """The finished records of a unit."""
        self._lines.write(json.dumps({"index": index, "records": list(records)}, default=str))

    def flush(self) -> None:
        """Before the journal is read."""
        self._lines.flush()

    def close(self) -> None:
        self._lines.close()


def places(files: Sequence[Path], valid: Valid) -> dict[int, tuple[Path, int]]:
    """File and byte of every finished unit in these journals; what is no whole line of ours is left out."""
    found = {}
    for file in local(files):
        start = 0
        with open(file, "rb") as stream:
            for line in stream:
                if (index := _index(line, valid)) is not None:
                    found[index] = (file, start)
                start += len(line)
    return found


def in_order(places: dict[int, tuple[Path, int]]) -> Iterator[Record]:
    """The records of all units, by index."""
    for index in sorted(places):
        file, start = places[index]
        with open(file, "rb") as stream:
            stream.seek(start)
            yield from json.loads(stream.readline())["records"]


def _index(line: bytes, valid: Valid) -> int | None:
    """The unit that a line belongs to; None for what a kill or somebody else has left."""
    try:
        entry = json.loads(line)
        index, records = entry["index"], entry["records"]
    except (ValueError, KeyError, TypeError):
        return None
    return index if type(index) is int and isinstance(records, list) and valid(index, records) else None
