"""safetensors files: the header, and a writer that cuts a stream of tensors into shards.

The format (https://github.com/huggingface/safetensors): eight bytes length, a JSON header, the data.
"""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from convert.tensors import DTYPES, LazyTensor, contiguous
from rlaifv_jax.errors import UserError

NAMES = {
    "F32": DTYPES["float32"],
    "F16": DTYPES["float16"],
    "BF16": DTYPES["bfloat16"],
    "F64": np.dtype(np.float64),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
}
HEADER_LIMIT = 100 * 2**20  # what the reference implementation accepts


def read_safetensors(file: Path) -> dict[str, LazyTensor]:
    """Name → tensor, from the header. Raises `UserError` when the file is cut short or is none."""
    size = file.stat().st_size
    with open(file, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(HEADER_LIMIT, size - 8):
            raise UserError(f"{file}: not a safetensors file, or cut short; fetch it again")
        try:
            header: Any = json.loads(stream.read(length))
        except (ValueError, RecursionError):
            raise UserError(f"{file}: not a safetensors file (its header is not JSON); fetch it again") from None
    if not isinstance(header, dict):
        raise UserError(f"{file}: not a safetensors file (its header is no JSON object); fetch it again")
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        match entry:
            case {"dtype": str(kind), "shape": [*sizes], "data_offsets": [int(first), int(last)]} if all(
                isinstance(size, int) and size >= 0 for size in sizes
            ):
                shape, start, end = tuple(sizes), 8 + length + first, 8 + length + last
            case _:
                raise UserError(f"{file} is damaged: its header does not say where {name} is; fetch the file again")
        dtype = NAMES.get(kind)
        if dtype is None:
            raise UserError(f"{file}: {name} is {kind}; supported are {', '.join(DTYPES)}")
        if start < 8 + length or end > size or 0 in shape or end - start != math.prod(shape) * dtype.itemsize:
            raise UserError(f"{file}: {name} lies outside the file, which is probably cut short; fetch it again")
        tensors[name] = LazyTensor(file, start, dtype, shape, contiguous(shape))
    return tensors


def _umask() -> int:
    """The process's mask of permissions, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


class ShardWriter:
    """Takes tensors one at a time and writes them as safetensors shards with an index, as transformers does.

    Memory: one shard. A model that fits in one shard becomes `model.safetensors` without an index.
    """

    def __init__(self, directory: Path, shard_bytes: int):
        self._directory = directory
        self._limit = shard_bytes
        self._shard: dict[str, np.ndarray] = {}
        self._bytes = self._total = 0
        self._written: list[tuple[Path, list[str]]] = []

    def write(self, tensors: Iterable[tuple[str, np.ndarray]]) -> None:
        """Write all tensors and the index. Files get their final names once the number of shards is known."""
        for name, tensor in tensors:
            if self._shard and self._bytes + tensor.nbytes > self._limit:
                self._flush()
            self._shard[name] = tensor
            self._bytes += tensor.nbytes
        self._flush()
        self._name_files()

    def _flush(self) -> None:
        from safetensors.numpy import save_file

        file = self._directory / f".shard-{len(self._written)}.partial"
        save_file(self._shard, file, metadata={"format": "pt"})
        file.chmod(0o666 & ~_umask())  # the library makes files that nobody else can read
        self._written.append((file, list(self._shard)))
        self._total += self._bytes
        self._shard, self._bytes = {}, 0

    def _name_files(self) -> None:
        count = len(self._written)
        if count == 1:
            os.replace(self._written[0][0], self._directory / "model.safetensors")
            return
        weight_map: dict[str, str] = {}
        for number, (file, names) in enumerate(self._written, start=1):
            final = f"model-{number:05d}-of-{count:05d}.safetensors"
            os.replace(file, self._directory / final)
            weight_map |= dict.fromkeys(names, final)
        index = {"metadata": {"total_size": self._total}, "weight_map": dict(sorted(weight_map.items()))}
        (self._directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
