"""PyTorch checkpoint files (`torch.save`, the zip format since 1.6), read without PyTorch and without risk.

A pickle is a program: it may name any function and call it. This one may name the few that put tensors
together, all of them replaced by our own; anything else stops the reading. Storages are never unpickled, they
are uncompressed entries of the zip file, so a tensor is a place in the file like any other.
"""

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from convert.tensors import DTYPES, LazyTensor
from rlaifv_jax.errors import UserError

STORAGES = {
    "FloatStorage": DTYPES["float32"],
    "HalfStorage": DTYPES["float16"],
    "BFloat16Storage": DTYPES["bfloat16"],
    "DoubleStorage": np.dtype(np.float64),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "BoolStorage": np.dtype(np.bool_),
}
PROGRAM_LIMIT = 64 * 2**20  # bytes of names and shapes, unpacked; zipfile gives no more than it says


class Storage(NamedTuple):
    """A flat array of a file. Immutable, as is `Place`: a pickle cannot bend them afterwards."""

    offset: int
    dtype: np.dtype
    length: int


class Place(NamedTuple):
    """A tensor in a storage."""

    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(file: Path) -> dict[str, LazyTensor]:
    """Name → tensor of a state dict.

    Raises:
      UserError: the file's pickle names anything but tensors, or it is not a zip file of torch.save.
    """
    if not zipfile.is_zipfile(file):
        raise UserError(
            f"{file}: not a zip file; it is broken, or written by PyTorch before 1.6; then convert it "
            'where you trust it: torch.save(torch.load("old.bin", map_location="cpu"), "new.bin")'
        )
    try:
        with zipfile.ZipFile(file) as archive:
            programs = [name for name in archive.namelist() if name.endswith("/data.pkl") or name == "data.pkl"]
            if len(programs) != 1:
                raise UserError(f"{file}: no data.pkl inside; this is not a file of torch.save; fetch it again")
            if archive.getinfo(programs[0]).file_size > PROGRAM_LIMIT:
                raise UserError(
                    f"{file}: its pickle takes more than {PROGRAM_LIMIT // 2**20} MiB, which no file of weights needs; "
                    "fetch it again"
                )
            with archive.open(programs[0]) as stream:
                state = _Reader(stream, file, archive, programs[0].removesuffix("data.pkl")).load()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{file}: its pickle cannot be read ({type(error).__name__}: {error}); fetch it again"
        ) from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(place, Place) for name, place in state.items()
    ):
        raise UserError(f"{file}: holds something else than names and tensors; give a file of weights")
    return {name: LazyTensor(file, *place) for name, place in state.items()}


class _Reader(pickle.Unpickler):
    def __init__(self, stream: Any, file: Path, archive: zipfile.ZipFile, prefix: str):
        super().__init__(stream)
        self._file, self._archive, self._prefix = file, archive, prefix
        self._allowed: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
            **{("torch", name): _StorageType(dtype) for name, dtype in STORAGES.items()},
            **{("torch.storage", name): _StorageType(dtype) for name, dtype in STORAGES.items()},
        }

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise UserError(
                f"{self._file}: its pickle asks for {module}.{name}, which has no place in a file of weights; "
                "use another file"
            ) from None

    def persistent_load(self, key: Any) -> Storage:
        kind, storage, name, _, length = key
        if kind != "storage" or not isinstance(storage, _StorageType):
            raise UserError(f"{self._file}: an unknown kind of storage: {key!r}")
        entry = self._archive.getinfo(f"{self._prefix}data/{name}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size < length * storage.dtype.itemsize:
            raise UserError(f"{self._file}: {entry.filename} is compressed or cut short; fetch it again")
        with open(self._file, "rb") as stream:  # the local header repeats name and extra field, of other lengths
            stream.seek(entry.header_offset + 26)
            name_length, extra_length = struct.unpack("<HH", stream.read(4))
        return Storage(entry.header_offset + 30 + name_length + extra_length, storage.dtype, length)

    def _tensor(self, storage: Storage, offset: int, shape: Any, strides: Any, *_: Any) -> Place:
        shape, strides = tuple(map(int, shape)), tuple(map(int, strides))
        if not isinstance(storage, Storage) or min((offset, *strides)) < 0 or 0 in shape:
            raise UserError(f"{self._file}: a tensor without a storage, or of impossible shape; fetch it again")
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if min(shape, default=1) < 0 or last >= storage.length:
            raise UserError(f"{self._file}: a tensor of shape {shape} reaches beyond its storage; fetch it again")
        start = storage.offset + offset * storage.dtype.itemsize
        return Place(start, storage.dtype, shape, strides)


class _StorageType:
    """Stands for torch.FloatStorage and its kin; not callable, so a pickle can do nothing with it."""

    def __init__(self, dtype: np.dtype):
        self.dtype = dtype


def _parameter(data: Place, *_: Any) -> Place:
    return data
