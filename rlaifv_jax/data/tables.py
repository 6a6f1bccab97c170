"""Rows on disk or on the hub behind one small interface: Parquet and Arrow, or JSON.

Arrow tables are memory-mapped by Hugging Face `datasets`, JSON lines are found by byte offset: either way a
row can be read in any order, and a copy for a worker process costs next to nothing.
"""

import hashlib
import json
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Protocol

import fsspec
import numpy as np
import pyarrow as pa

from rlaifv_jax.errors import UserError
from rlaifv_jax.places import local, reason, refused

IMAGE_COLUMNS = ("image", "images")  # heavy: left out when only texts are wanted
JSON_ENDINGS = (".jsonl", ".json")
ENDINGS = (".parquet", *JSON_ENDINGS)
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class Table(Protocol):
    """Rows that can be read in any order. Picklable."""

    name: str  # for messages
    columns: tuple[str, ...]
    identity: str  # changes when the files do

    def __len__(self) -> int: ...

    def row(self, number: int) -> dict[str, Any]:
        """All columns of a row; images stay encoded."""

    def texts(self, number: int) -> dict[str, Any]:
        """A row, where possible without its images."""

    def table(self, numbers: list[int]) -> pa.Table:
        """Rows with all their columns."""

    def folder(self, number: int) -> str | None:
        """Where the relative paths of a row start."""


def open_table(path: str | os.PathLike[str] | Sequence[str], split: str = "train") -> Table:
    """Open files (one, a list, a glob, a directory; local or `gs://`) or a dataset of the hub.

    Raises `UserError` if nothing is found, or if what is found is of several kinds.
    """
    paths = [os.fspath(p) for p in ([path] if isinstance(path, str | os.PathLike) else path)]
    name = ", ".join(paths)
    if not paths:
        raise UserError("data: no path was given; set one")
    named = len(paths) == 1 and HUB_ID.fullmatch(paths[0]) and not paths[0].endswith(ENDINGS)
    if named and not os.path.exists(paths[0]):
        return _open_hub(paths[0], split)
    files = [file for p in paths for file in find_files(p)]
    kinds = {os.path.splitext(file)[1] for file in files}
    if kinds == {".parquet"}:
        return ArrowTable.from_parquet(files, name)
    if kinds and kinds <= set(JSON_ENDINGS):
        return JsonTable(files, name)
    raise UserError(f"data: {name} mixes files of several kinds ({', '.join(sorted(kinds))}); give one kind")


class ArrowTable:
    """A Hugging Face dataset, read as plain Arrow so that no image is ever decoded by it."""

    def __init__(self, dataset: Any, name: str, identity: str, folder: str | None):
        self.name = name
        self.identity = identity
        self.columns = tuple(dataset.column_names)
        light = [column for column in self.columns if column not in IMAGE_COLUMNS]
        self._all = dataset.with_format("arrow")
        self._light = dataset.select_columns(light).with_format("arrow") if light else self._all
        self._folder = folder

    @classmethod
    def from_parquet(cls, files: Sequence[str], name: str) -> "ArrowTable":
        """Open Parquet files of one schema; `datasets` copies them once into its memory-mapped cache."""
        import datasets

        try:
            if not any(_parquet_rows(file) for file in files):
                raise UserError(f"data: {name} has no rows; one or more are needed")
            # Of files in the cloud `datasets` knows the etag when it looks for what it has made of them before, but not
            # when it looks for what it has fetched.
            anew = datasets.DownloadConfig(force_download=True)
            dataset = datasets.load_dataset("parquet", data_files=list(files), split="train", download_config=anew)
        except UserError:
            raise
        except Exception as error:
            cause = error.__cause__ or error
            raise refused(f"data: {name} cannot be read as Parquet", cause, "fetch or write it again") from None
        parents = {os.path.dirname(file) for file in files}
        folder = parents.pop() if len(parents) == 1 else _common_folder(parents)
        return cls(dataset, name, _identity(files), folder)

    def __len__(self) -> int:
        return len(self._all)

    def row(self, number: int) -> dict[str, Any]:
        """All columns of a row; images stay encoded."""
        return self._plain(self._all, number)

    def table(self, numbers: list[int]) -> pa.Table:
        """Rows with all their columns, as they are stored."""
        return self._all[numbers]

    def texts(self, number: int) -> dict[str, Any]:
        """The row without its image columns, which are not read."""
        return self._plain(self._light, number)

    def _plain(self, dataset: Any, number: int) -> dict[str, Any]:
        try:
            row: dict[str, Any] = dataset[int(number)].to_pylist()[0]
        except (UnicodeDecodeError, pa.ArrowException) as error:
            raise UserError(f"data: {self.name}, row {number} cannot be read, the file is damaged: {error}") from None
        return row

    def folder(self, number: int) -> str | None:
        """The data files' own folder; None on the hub."""
        return self._folder


class JsonTable:
    """JSON lines, or files that hold one JSON array (some pipelines name those .jsonl too)."""

    def __init__(self, files: Sequence[str], name: str):
        self.name = name
        self.identity = _identity(files)
        self._files = tuple(files)
        self._copies = tuple(local(files))  # what is read row by row
        self._arrays: dict[int, list[Any]] = {}
        self._array_files: set[int] = set()
        places = array("q")
        for number in range(len(files)):
            places.extend(chain.from_iterable(self._find_rows(number)))
        self._places = np.asarray(places).reshape(-1, 2)  # int64: file, byte offset or index in its array
        self.columns = tuple(self.row(0)) if len(self._places) else ()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_arrays": {}}  # read again where it is needed

    def _find_rows(self, file: int) -> Iterator[tuple[int, int]]:
        with open(self._copies[file], "rb") as stream:
            if stream.read(4096).lstrip()[:1] == b"[":
                self._array_files.add(file)
                yield from ((file, index) for index in range(len(self._array(file))))
                return
            stream.seek(0)
            offset = 0
            for line in stream:
                if line.strip():
                    yield file, offset
                offset += len(line)

    def _array(self, file: int) -> list[Any]:
        if file not in self._arrays:
            with open(self._copies[file], "rb") as stream:
                self._arrays[file] = self._parse(stream.read(), file, "the array")
        return self._arrays[file]

    def _parse(self, text: bytes, file: int, what: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"data: {self._files[file]}, {what}: not valid JSON ({error}); mend or remove it") from None

    def __len__(self) -> int:
        return len(self._places)

    def row(self, number: int) -> dict[str, Any]:
        """All keys of a row."""
        file, start = (int(x) for x in self._places[number])
        if file in self._array_files:
            record = self._array(file)[start]
        else:
            with open(self._copies[file], "rb") as stream:
                stream.seek(start)
                record = self._parse(stream.readline(), file, f"row {number}")
        if not isinstance(record, dict):
            found = type(record).__name__
            raise UserError(f"data: {self._files[file]}, row {number}: expected a JSON object, found {found}")
        return record

    def table(self, numbers: list[int]) -> pa.Table:
        """Rows with all their columns; what Arrow has no type for becomes JSON text."""
        records = [self.row(number) for number in numbers]
        names = list(dict.fromkeys(name for record in records for name in record))
        return pa.table({name: _column([record.get(name) for record in records]) for name in names})

    def texts(self, number: int) -> dict[str, Any]:
        """The same as `row`: a line is read as a whole."""
        return self.row(number)

    def folder(self, number: int) -> str | None:
        """The folder of the file that holds the row."""
        return os.path.dirname(self._files[int(self._places[number, 0])])


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values])


def _parquet_rows(file: str) -> int:
    import pyarrow.parquet

    with fsspec.open(file, "rb") as stream:
        return pyarrow.parquet.read_metadata(stream).num_rows


def _common_folder(folders: Iterable[str]) -> str:
    """The deepest folder above all of `folders`, which may be addresses of one kind."""
    protocols = {folder.partition("://")[0] for folder in folders if "://" in folder}
    protocol = f"{protocols.pop()}://" if protocols else ""
    return protocol + os.path.commonpath([folder.removeprefix(protocol) for folder in folders])


def _open_hub(name: str, split: str) -> ArrowTable:
    import datasets

    try:
        dataset = datasets.load_dataset(name, split=split)
    except Exception as error:
        raise UserError(f"data: no file or folder {name!r} here, and the hub says: {reason(error)}") from None
    return ArrowTable(dataset, name, dataset._fingerprint, None)


def find_files(path: str) -> list[str]:
    """The data files that a path stands for."""
    try:
        files, root = fsspec.core.url_to_fs(path)
        there = files.exists(root)
    except (ImportError, ValueError, OSError) as error:
        raise refused(f"data: {path} cannot be reached", error, "check address and rights") from None
    on_disk = "file" in ([files.protocol] if isinstance(files.protocol, str) else files.protocol)
    if not there and any(letter in path for letter in "*?["):
        found = files.glob(root)
    elif files.isdir(root):
        found = [file for file in files.ls(root, detail=False) if file.endswith(ENDINGS)]
        found = found or files.find(root)  # folders in folders only where the first holds no data itself
        if any(file.endswith(".parquet") for file in found):  # photos.jsonl beside photos.parquet: the same rows
            found = [file for file in found if file.endswith(".parquet")]
    else:
        found = [root] if there else []
    found = sorted(file for file in found if file.endswith(ENDINGS))
    if not found and not there:
        raise UserError(f"data: there is no {path}")
    if not found:
        raise UserError(f"data: {path} holds no {', '.join(ENDINGS)} file, one is needed")
    return found if on_disk else [files.unstrip_protocol(file) for file in found]


def _identity(files: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for file in files:
        system, path = fsspec.core.url_to_fs(file)
        info = system.info(path)
        stamp = next((info[key] for key in ("etag", "ETag", "md5Hash", "mtime", "updated") if info.get(key)), None)
        digest.update(repr((file, info.get("size"), stamp)).encode())
    return digest.hexdigest()
