"""Tensors of a checkpoint directory by name, read only when asked for, whichever files hold them.

A `LazyTensor` is a place in a file (offset, dtype, shape, strides), so safetensors and PyTorch files read
alike: map the bytes, slice, copy out. Each read maps its file anew and lets go of it, which keeps resident
memory at one tensor however large the model is.
"""

import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from convert.layouts import DERIVED
from rlaifv_jax.errors import UserError, shortened
from rlaifv_jax.models.hf_config import read_json

Index = tuple[slice, ...]

DTYPES: Mapping[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}

# In order of preference: a directory often holds the same weights twice.
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SINGLES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class LazyTensor:
    """An array in a file: where its first element lies, and how far apart its elements are (in elements)."""

    file: Path
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, index: Index = (), axes: tuple[int, ...] | None = None) -> np.ndarray:
        """A copy of `self[index]`, with its axes permuted by `axes` as np.transpose does."""
        size = self.dtype.itemsize
        order = axes or tuple(range(len(self.shape)))
        last = sum((length - 1) * stride for length, stride in zip(self.shape, self.strides, strict=True))
        start = self.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        length = self.offset - start + (last + 1) * size
        try:
            with open(self.file, "rb") as file:
                mapped = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=start)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.file}: cut short or gone since it was opened ({error}); fetch it again") from None
        view: np.ndarray = np.ndarray(
            self.shape,
            self.dtype,
            buffer=mapped,
            offset=self.offset - start,
            strides=tuple(stride * size for stride in self.strides),
        )
        return view[index].transpose(order).copy(order="C")


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides, in elements, of a C-ordered array."""
    return tuple(int(np.prod(shape[axis + 1 :])) for axis in range(len(shape)))


def weight_files(directory: Path) -> list[Path]:
    """The files that hold the weights of a directory: those an index names, else the single one.

    Other files (mm_projector.bin, optimizer states) are left alone: what counts is in the index.

    Raises:
      UserError: no weights, or a shard that the index names is not there.
    """
    for name in INDEXES:
        index = directory / name
        if index.exists():
            files = [directory / file for file in sorted(set(_weight_map(index).values()))]
            missing = [file.name for file in files if not file.is_file()]
            if missing:
                raise UserError(
                    f"{directory}: {len(missing)} of the {len(files)} files in {name} are missing: "
                    f"{', '.join(missing[:3])}{' …' if len(missing) > 3 else ''}; the download is incomplete"
                )
            return files
    for name in SINGLES:
        if (directory / name).is_file():
            return [directory / name]
    raise UserError(f"{directory}: no weights; one of the files {', '.join((*INDEXES, *SINGLES))} is needed")


def _weight_map(index: Path) -> dict[str, str]:
    """Name of a tensor → name of the file beside `index` that holds it."""
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise UserError(f"{index}: not an index of weights (no weight_map); fetch it again")
    for name, file in found.items():
        if not isinstance(file, str) or file in ("", ".", "..") or Path(file).name != file:
            raise UserError(f"{index}: {shortened(repr(file))}, where {name} shall be, is no name of a file beside it")
    return found


def read_directory(directory: Path) -> dict[str, LazyTensor]:
    """Name → tensor, from the headers of the weight files only; those that layouts.DERIVED names are left out.

    Raises:
      UserError: a broken or unsafe file, a name in two files, a name of the index that is in no file.
    """
    from convert.safetensors_file import read_safetensors
    from convert.torch_file import read_torch

    tensors: dict[str, LazyTensor] = {}
    for file in weight_files(directory):
        found = (read_safetensors if file.suffix == ".safetensors" else read_torch)(file)
        for name in found.keys() & tensors.keys():
            raise UserError(f"{name} is both in {tensors[name].file} and in {file.name}")
        tensors.update(found)
    for index in (directory / name for name in INDEXES):
        if index.exists():
            lost = [name for name in _weight_map(index) if name not in tensors]
            if lost:
                raise UserError(f"{index}: {len(lost)} names are not in their files, e.g. {lost[0]}; fetch them again")
            break
    kept = {name: tensor for name, tensor in tensors.items() if not DERIVED.search(name)}
    for name, tensor in kept.items():
        if tensor.dtype not in DTYPES.values():
            raise UserError(f"{tensor.file}: {name} is {tensor.dtype}; supported are {', '.join(DTYPES)}")
    return kept
