"""Parameters from files into `params/`, layer by layer: a host needs room for a few layers, not for the model.

What is written is the Orbax checkpoint that `convert.orbax_dir.save_params` writes of arrays in memory: Zarr arrays in
one OCDBT key-value store, and a `_METADATA` that says which there are. A layer of a stacked parameter is one chunk.
"""

import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from etils import epath
from tqdm import tqdm

from convert.leaves import Leaf
from convert.orbax_dir import CHUNK_BYTES, PARAMS, clear_params, store_spec
from rlaifv_jax.data.ahead import ahead
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.blueprint import Blueprint, flat

IN_FLIGHT = 512 * 2**20  # bytes of layers that are being written
READERS = 4  # threads that turn layers as they are here, and layers that may wait
COMPRESSOR = {"id": "zstd", "level": 1}  # as Orbax has it
METADATA: dict[str, Any] = {"use_ocdbt": True, "use_zarr3": False, "store_array_data_equal_to_fill_value": True}


def write_params(directory: Any, leaves: Mapping[str, Leaf], blueprint: Blueprint) -> None:
    """Write `params/`, every parameter in its own dtype, which completes a directory that already has its assets."""
    import tensorstore

    params = epath.Path(directory) / PARAMS
    clear_params(directory)
    params.mkdir(parents=True)
    shapes, axes = flat(blueprint.shapes), flat(blueprint.axes)
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 0}})
    writing: deque[tuple[int, Any]] = deque()

    def put(store: Any, piece: np.ndarray) -> None:
        writing.append((piece.nbytes, store.write(piece).commit))
        while sum(size for size, _ in writing) > IN_FLIGHT:
            done(writing.popleft()[1])

    def done(future: Any) -> Any:
        try:
            return future.result()
        except ValueError as error:  # what TensorStore raises for everything, a full disk too
            raise UserError(
                f"{params} cannot be written ({str(error).splitlines()[0]}); choose another place"
            ) from None

    def pieces() -> Iterator[tuple[Any, Leaf, int | None]]:
        """Every layer: where it goes, and what is to be read for it."""
        for path, leaf in leaves.items():
            shape, stacked = shapes[path].shape, len(shapes[path].shape) > len(axes[path])
            chunks = _chunks(shape, leaf.dtype.itemsize, stacked=stacked)
            metadata = {"shape": shape, "chunks": chunks, "dtype": _zarr_dtype(leaf.dtype), "compressor": COMPRESSOR}
            spec = store_spec(params, path, METADATA) | {"metadata": metadata}
            store = done(tensorstore.open(spec, create=True, context=context))
            for layer in range(shape[0]) if stacked else [None]:
                yield store if layer is None else store[layer], leaf, layer

    def read(piece: tuple[Any, Leaf, int | None]) -> tuple[Any, np.ndarray]:
        store, leaf, layer = piece
        return store, leaf.read(layer).astype(leaf.dtype, copy=False)

    total = sum(int(np.prod(leaf.shape)) for leaf in shapes.values())
    with tqdm(total=total, unit="", unit_scale=True, desc="writing", disable=None) as bar:
        for store, piece in ahead(read, pieces(), threads=READERS, most=READERS):
            put(store, piece)
            bar.update(piece.size)
        while writing:
            done(writing.popleft()[1])
    tree = {
        str(tuple(path.split("/"))): {
            "key_metadata": [{"key": key, "key_type": 2} for key in path.split("/")],  # 2: a key of a dict
            "value_metadata": {
                "value_type": "np.ndarray",
                "skip_deserialize": False,
                "write_shape": shapes[path].shape,
            },
        }
        for path in leaves
    }
    (params / "commit_success.txt").write_text("written by rlaifv-jax")  # what Orbax looks for in the cloud
    (params / "_METADATA").write_text(json.dumps({"tree_metadata": tree, **METADATA, "custom_metadata": None}))


def _chunks(shape: tuple[int, ...], itemsize: int, *, stacked: bool) -> list[int]:
    """A layer; of a parameter of its own as many rows as CHUNK_BYTES hold."""
    if stacked:
        return [1, *shape[1:]]
    if not shape:
        return []
    row = int(np.prod(shape[1:])) * itemsize
    return [max(1, min(shape[0], CHUNK_BYTES // max(row, 1))), *shape[1:]]


def _zarr_dtype(dtype: np.dtype) -> str:
    return "bfloat16" if dtype.name == "bfloat16" else dtype.str
