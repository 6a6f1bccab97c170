"""A parameter in an array that Orbax wrote, read through TensorStore."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from convert.tensors import Index
from rlaifv_jax.errors import UserError

METADATA_KEYS = (b".zarray", b".zattrs", b"zarr.json")  # what an array holds beside its chunks


@dataclass(frozen=True)
class OrbaxLeaf:
    """A parameter in a `params/` directory, read slice by slice. See convert.leaves.Leaf.

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
        except ValueError as error:
            raise damaged(self.where, error) from None

    @property
    def chunks(self) -> int:
        """How many chunks the array is cut into."""
        grid = zip(self.store.shape, self.store.chunk_layout.write_chunk.shape, strict=True)
        return math.prod(-(-length // chunk) for length, chunk in grid)


def damaged(where: str, error: ValueError) -> UserError:
    """What to say of an array on which TensorStore raises the one exception it has."""
    reason = str(error).splitlines()[0][:200]
    return UserError(f"{where} is damaged or incomplete ({reason}); copy or write it again")


def check_chunks(leaves: Mapping[str, OrbaxLeaf], *, complete: bool) -> None:
    """Look that the files reach to the last byte of every chunk. Whether the bytes are right, reading will tell.

    complete: whether every chunk was written, those of nothing but zeros too.

    Raises:
      UserError: naming the first array that lacks any.
    """
    # All at once: in the cloud each request takes a while.
    listed = [(leaf, leaf.store.kvstore.list()) for leaf in leaves.values()]
    asked = []
    for leaf, keys in listed:
        try:
            chunks = [key for key in keys.result() if key not in METADATA_KEYS]
        except ValueError as error:
            raise damaged(leaf.where, error) from None
        asked.append((leaf, [leaf.store.kvstore.read(key, byte_range=slice(-1, None)) for key in chunks]))
    for leaf, last_bytes in asked:
        try:
            there = sum(len(byte.result().value) for byte in last_bytes)  # 0 of a file that is not there
        except ValueError as error:
            raise damaged(leaf.where, error) from None
        wanted = leaf.chunks if complete else len(last_bytes)
        if there < wanted:
            raise UserError(f"{leaf.where} lacks {wanted - there} of its {leaf.chunks} chunks; copy or write it again")
