"""The records that a stage reads, in shards: those of a stage before it as they are, other files cut into some."""

import hashlib
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path

from rlaifv_jax.data.tables import Table, open_table
from rlaifv_jax.errors import UserError
from rlaifv_jax.places import local, place
from rlaifv_jax.records.part import Record
from rlaifv_jax.records.shards import finished_files

BLOCK = 2**20


class Input:
    """Records in shards; each is read when it is asked for.

    Args:
      path: a directory that a stage has written, or a file, directory or glob of JSON lines, JSON arrays or parquet.
      group: records with the same group that follow each other stay in one shard.
      shard_records: where other files are cut, as soon as the group ends.

    `fingerprint` names the content, `folders` where relative paths of its records may start.

    Raises:
      UserError: nothing there, an unfinished stage, records that are none.
    """

    def __init__(self, path: str, group: Callable[[Record], Hashable], shard_records: int):
        self.path = path
        files = finished_files(path)
        self._own = files
        if files is not None:
            copies = local(files)
            self.fingerprint, self.folders = _content(copies), [str(place(path).parent)]
            self._lengths = [_lines(file) for file in copies]
        else:
            self._table = open_table(path)
            if not len(self._table):
                raise UserError(f"{path} holds no records; give what an earlier stage has written")
            self._ranges = list(_cut(self._table, group, shard_records))
            self.fingerprint = _rows(self._table)
            self.folders = [folder for folder in [self._table.folder(0)] if folder is not None]

    @property
    def count(self) -> int:
        """How many shards."""
        return len(self._ranges) if self._own is None else len(self._own)

    def __len__(self) -> int:
        """How many records."""
        return len(self._table) if self._own is None else sum(self._lengths)

    def length(self, shard: int) -> int:
        return len(self._ranges[shard]) if self._own is None else self._lengths[shard]

    def read(self, shard: int) -> list[Record]:
        """The records of a shard."""
        if self._own is None:
            return [self._table.row(row) for row in self._ranges[shard]]
        table = open_table(str(self._own[shard]))
        return [table.row(row) for row in range(len(table))]

    def __iter__(self) -> Iterator[Record]:
        for shard in range(self.count):
            yield from self.read(shard)


def _cut(table: Table, group: Callable[[Record], Hashable], most: int) -> Iterator[range]:
    start, before = 0, None
    for row in range(len(table)):
        name = group(table.row(row))
        if row - start >= most and name != before:
            yield range(start, row)
            start = row
        before = name
    yield range(start, len(table))


def _lines(file: Path) -> int:
    with open(file, "rb") as stream:
        return sum(1 for _ in stream)


def _content(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with open(file, "rb") as stream:
            while block := stream.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()[:16]


def _rows(table: Table) -> str:
    digest = hashlib.sha256()
    for row in range(len(table)):
        digest.update(repr(table.row(row)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]
