"""Where a parameter comes from: tensors of Hugging Face files here, an array that Orbax wrote in convert.orbax_leaf."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from convert.decoder import Entry
from convert.tensors import Index, LazyTensor
from rlaifv_jax.errors import UserError


class Leaf(Protocol):
    """A parameter that is not in memory. Stacked parameters are read one layer at a time."""

    @property
    def dtype(self) -> np.dtype:
        """The narrowest dtype that holds all its layers exactly."""

    def dtype_of(self, layer: int | None) -> np.dtype:
        """The dtype of one layer as the files have it."""

    def read(self, layer: int | None, index: Index = ()) -> np.ndarray:
        """A copy of the parameter (layer None) or of one of its layers, or the slice `index` of it."""


@dataclass(frozen=True)
class FileLeaf:
    """A parameter made of one tensor, or of one tensor a layer."""

    entries: tuple[Entry, ...]
    tensors: tuple[LazyTensor, ...]

    @property
    def dtype(self) -> np.dtype:
        return functools.reduce(_wider, (tensor.dtype for tensor in self.tensors))

    def dtype_of(self, layer: int | None) -> np.dtype:
        return self.tensors[layer or 0].dtype

    def read(self, layer: int | None, index: Index = ()) -> np.ndarray:
        entry, tensor = self.entries[layer or 0], self.tensors[layer or 0]
        return tensor.read(entry.ours(index, tensor.shape), entry.axes)


def _wider(one: np.dtype, other: np.dtype) -> np.dtype:
    if one == other:
        return one
    if ml_dtypes.bfloat16 in (one, other):
        return np.dtype(np.float32)  # neither of the 16-bit formats holds the other
    return np.promote_types(one, other)


def match(
    entries: Sequence[Entry],
    tensors: Mapping[str, LazyTensor],
    names: Mapping[tuple[str, str], str],
    shapes: Mapping[str, tuple[int, ...]],
    where: Any,
) -> dict[str, FileLeaf]:
    """Give every tensor its parameter and every parameter its tensors.

    Args:
      entries: rows of the family's table. tensors: what the files hold, without what may be dropped.
      names: (part, name) → name in the files. shapes: parameter path → shape. where: for messages.

    Raises:
      UserError: tensors missing, left over or of another shape; the first few of each by name and file.
    """
    wanted = {names[entry.part, entry.name]: entry for entry in entries}
    missing = [name for name in wanted if name not in tensors]
    extra = [f"{name} in {tensors[name].file.name}" for name in tensors if name not in wanted]
    bent = []
    for name, entry in wanted.items():
        shape = shapes[entry.path][0 if entry.layer is None else 1 :]
        right = entry.theirs(shape)
        if name in tensors and tensors[name].shape != right:
            found = f"{name} in {tensors[name].file.name} is {list(tensors[name].shape)}"
            bent.append(f"{found}, config.json says {list(right)}")
    problems = [
        f"{len(names)} {kind}: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
        for kind, names in (("missing", missing), ("unexpected", extra), ("of the wrong shape", bent))
        if names
    ]
    if problems:
        found = "; ".join(problems)
        raise UserError(f"{where}: the tensors do not fit config.json, both must be of one model; {found}")
    grouped: dict[str, list[Entry]] = {}
    for entry in entries:
        grouped.setdefault(entry.path, []).append(entry)
    return {
        path: FileLeaf(tuple(rows), tuple(tensors[names[row.part, row.name]] for row in rows))
        for path, rows in grouped.items()
    }
