"""Where a parameter comes from: tensors of Hugging Face files, or an array that Orbax wrote."""

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


@dataclass(frozen=True)
class OrbaxLeaf:
    """A parameter in a `params/` directory, read slice by slice through TensorStore.

    where: directory and name, for messages. recorded: dtypes of the layers in the imported files, where they were not
    all the same.
    """

    where: str
    store: Any
    recorded: tuple[np.dtype, ...] = ()

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.store.dtype.numpy_dtype)

    def dtype_of(self, layer: int | None) -> np.dtype:
        return self.recorded[layer or 0] if self.recorded else self.dtype

    def read(self, layer: int | None, index: Index = ()) -> np.ndarray:
        part = self.store if layer is None else self.store[layer]
        try:
            return np.array(part[index].read().result() if index else part.read().result())
        except ValueError as error:  # what TensorStore raises for everything
            raise damaged(self.where, error) from None


def damaged(where: str, error: ValueError) -> UserError:
    """What to say of an array that TensorStore cannot read."""
    reason = str(error).splitlines()[0][:200]
    return UserError(f"{where} is damaged or incomplete ({reason}); copy or write the model again")


def check_chunks(leaves: Mapping[str, OrbaxLeaf], *, complete: bool) -> None:
    """Look that the data of the arrays is there, down to the last byte of every chunk; what it says, reading will tell.

    complete: whether every chunk was written, those of nothing but zeros too.

    Raises:
      UserError: naming the first array that lacks any.
    """
    stores = {path: leaf.store.kvstore for path, leaf in leaves.items()}
    keys, tails = {}, {}
    try:  # all at once: in the cloud each takes a while
        listed = {path: store.list() for path, store in stores.items()}
        for path, keys in listed.items():
            chunks = [key for key in keys.result() if key not in NO_CHUNKS]
            tails[path] = [stores[path].read(key, byte_range=slice(-1, None)) for key in chunks]
        for path, leaf in leaves.items():
            grid = zip(leaf.store.shape, leaf.store.chunk_layout.write_chunk.shape, strict=True)
            chunks = math.prod(-(-length // chunk) for length, chunk in grid)
            lacking = sum(tail.result().value == b"" for tail in tails[path])  # of a file that is not there
            lacking += chunks - len(tails[path]) if complete else 0
            if lacking:
                raise UserError(f"{leaf.where} lacks {lacking} of its {chunks} chunks; copy or write the model again")
    except ValueError as error:
        raise damaged(leaves[path].where, error) from None


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
        raise UserError(f"{where}: the tensors do not fit config.json; {'; '.join(problems)}")
    grouped: dict[str, list[Entry]] = {}
    for entry in entries:
        grouped.setdefault(entry.path, []).append(entry)
    return {
        path: FileLeaf(tuple(rows), tuple(tensors[names[row.part, row.name]] for row in rows))
        for path, rows in grouped.items()
    }
