"""Rows of Parquet files: opening reads the footers, a row reads its row group, and texts are read without pictures."""

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlaifv_jax.data.tables import IMAGE_COLUMNS
from rlaifv_jax.errors import UserError
from rlaifv_jax.places import refused

Cells = dict[str, Any]
BUFFER = 2**18  # bytes of a file that are read at once; without it a whole column of a row group would be
BATCHES = 8  # that are kept decoded of a row group


class ParquetRows:
    """A table as `rlaifv_jax.data.tables.Table` has them, but never copied or mapped. Safe to use by several threads.

    Raises `UserError` for a file that is none, or whose columns are not those of the first.
    """

    def __init__(self, files: Sequence[str], name: str):
        self.name = name
        self.files = tuple(files)
        self._footers = [_footer(file) for file in files]
        schemas = [footer.schema.to_arrow_schema() for footer in self._footers]
        self.columns = tuple(schemas[0].names)
        for file, schema in zip(files, schemas, strict=True):
            if set(schema.names) != set(self.columns):
                raise UserError(f"{file} has other columns ({', '.join(schema.names)}) than {files[0]}; give one")
        light = [column for column in self.columns if column not in IMAGE_COLUMNS]
        self._groups = [
            (file, group) for file, footer in enumerate(self._footers) for group in range(footer.num_row_groups)
        ]
        sizes = [self._footers[file].row_group(group).num_rows for file, group in self._groups]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._texts = _Readers(light, rows=256, most=4)
        self._whole = _Readers(list(self.columns), rows=8, most=1)  # a page of pictures may be a whole row group

    def __len__(self) -> int:
        return int(self._starts[-1])

    def row(self, number: int) -> Cells:
        """All columns of a row; images stay encoded."""
        return self._cells(number, self._whole)

    def texts(self, number: int) -> Cells:
        """The row without its image columns, which are not read."""
        return self._cells(number, self._texts)

    def folder(self, number: int) -> str:
        """Where relative paths start: the folder of the row's file."""
        return os.path.dirname(self.files[self._groups[self._group_of(number)][0]])

    def scan(self) -> Iterator[tuple[int, Cells | UserError]]:
        """Every row without its image columns, by number; each row group is opened once."""
        for group, start in enumerate(self._starts[:-1]):
            reader = self._reader(group, self._texts)
            try:
                for first, batch in reader:
                    for place in range(batch.num_rows):
                        number = int(start) + first + place
                        yield number, self._plain(batch, place, number)
            except (pa.ArrowException, OSError) as error:
                yield int(start), self._damaged(int(start), error)

    def _group_of(self, number: int) -> int:
        return int(np.searchsorted(self._starts, number, side="right")) - 1

    def _reader(self, group: int, readers: "_Readers") -> "_Reader":
        file, place = self._groups[group]
        return _Reader(self.files[file], self._footers[file], place, readers.columns, readers.rows)

    def _cells(self, number: int, readers: "_Readers") -> Cells:
        group = self._group_of(number)
        place = number - int(self._starts[group])
        with readers.lock:
            reader = readers.open.pop(group, None) or self._reader(group, readers)
            readers.keep(group, reader)
            try:
                start, batch = reader.batch_of(place)
            except (pa.ArrowException, OSError) as error:
                raise self._damaged(number, error) from None
        cells = self._plain(batch, place - start, number)
        if isinstance(cells, UserError):
            raise cells
        return cells

    def _plain(self, batch: pa.RecordBatch, place: int, number: int) -> Cells | UserError:
        try:
            return batch.slice(place, 1).to_pylist()[0]
        except (UnicodeDecodeError, pa.ArrowException) as error:
            return self._damaged(number, error)

    def _damaged(self, number: int, error: Exception) -> UserError:
        file = self.files[self._groups[self._group_of(number)][0]]
        return refused(f"{file}, row {number} cannot be read, the file is damaged", error, "fetch or write it again")


class _Readers:
    """Row groups that are open. columns: that they read. rows: decoded at once. most: kept open."""

    def __init__(self, columns: list[str], rows: int, most: int):
        self.columns, self.rows, self._most = columns, rows, most
        self.lock = threading.Lock()
        self.open: OrderedDict[int, _Reader] = OrderedDict()

    def keep(self, group: int, reader: "_Reader") -> None:
        self.open[group] = reader
        while len(self.open) > self._most:
            self.open.popitem(last=False)


class _Reader:
    """One row group, batch after batch; the last few batches are kept, and one that was before these is read again."""

    def __init__(self, file: str, footer: pq.FileMetaData, group: int, columns: list[str], rows: int):
        self._file, self._footer, self._group, self._columns, self._rows = file, footer, group, columns, rows
        self._kept: OrderedDict[int, pa.RecordBatch] = OrderedDict()
        self._coming: Iterator[tuple[int, pa.RecordBatch]] | None = None
        self._next = 0  # row that comes next

    def __iter__(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(the number of its first row in the group, batch) of all batches."""
        start = 0
        with fsspec.open(self._file, "rb") as stream:
            opened = pq.ParquetFile(stream, metadata=self._footer, buffer_size=BUFFER, pre_buffer=False)
            for batch in opened.iter_batches(self._rows, [self._group], self._columns, use_threads=False):
                yield start, batch
                start += batch.num_rows

    def batch_of(self, place: int) -> tuple[int, pa.RecordBatch]:
        for start, batch in self._kept.items():
            if start <= place < start + batch.num_rows:
                return start, batch
        if self._coming is None or place < self._next:
            self._coming, self._next = iter(self), 0
        for start, batch in self._coming:
            self._next = start + batch.num_rows
            if place < self._next:
                self._kept[start] = batch
                while len(self._kept) > BATCHES:
                    self._kept.popitem(last=False)
                return start, batch
        raise OSError(f"there is no row {place}")


def _footer(file: str) -> pq.FileMetaData:
    try:
        with fsspec.open(file, "rb") as stream:
            return pq.read_metadata(stream)
    except (pa.ArrowException, OSError) as error:
        raise refused(f"{file} cannot be read as Parquet", error, "fetch or write it again") from None
