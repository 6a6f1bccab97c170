"""Parameters onto the mesh, one tensor after the other.

A stacked parameter is allocated once, sharded, and filled layer by layer in place; a process reads the slices
that its own devices hold and nothing else. So a host needs room for little more than one tensor beside the
model.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

from convert.leaves import Leaf
from rlaifv_jax.models.blueprint import Blueprint, Params, flat, nested
from rlaifv_jax.models.lora import quantize
from rlaifv_jax.parallel import is_main, shardings

IN_FLIGHT = 256 * 2**20  # bytes of finished reads whose copy onto the devices need not have ended


def load_params(
    leaves: Mapping[str, Leaf], blueprint: Blueprint, mesh: Mesh, dtype: Callable[[str], Any | None]
) -> Params:
    """Nested dict of arrays, sharded by the rules of rlaifv_jax.parallel; int8 with scales where `blueprint` has these.

    dtype: parameter path → dtype on the devices, None for that of the files. Every process must call this.
    """
    shapes, axes = flat(blueprint.shapes), flat(blueprint.axes)
    places = flat(shardings(blueprint.axes, blueprint.shapes, mesh))
    total = sum(int(np.prod(leaf.shape)) for leaf in shapes.values())
    loaded: dict[str, jax.Array] = {}
    waiting = 0
    with tqdm(total=total, unit="", unit_scale=True, desc="loading", disable=None if is_main() else True) as bar:
        for path, leaf in leaves.items():
            shape, place = shapes[path].shape, places[path]
            target = np.dtype(dtype(path) or leaf.dtype)
            if len(shape) == len(axes[path]):
                loaded[path] = _read(leaf, None, shape, target, place)
                bar.update(int(np.prod(shape)))
                continue
            names, dtypes = [path], [target]
            if narrow := f"{path}_scale" in shapes:
                names, dtypes = [path, f"{path}_scale"], [np.dtype(np.int8), target]
            stacks = [_zeros(shapes[n].shape, d, places[n])() for n, d in zip(names, dtypes, strict=True)]
            for layer in range(shape[0]):
                piece = _read(leaf, layer, shape[1:], target, NamedSharding(mesh, P(*place.spec[1:])))
                pieces = _quantize(piece, target) if narrow else (piece,)
                stacks = [
                    _fill(places[name])(stack, part, np.int32(layer))
                    for name, stack, part in zip(names, stacks, pieces, strict=True)
                ]
                waiting += piece.nbytes
                if waiting > IN_FLIGHT:
                    jax.block_until_ready(stacks)
                    waiting = 0
                bar.update(int(np.prod(shape[1:])))
            loaded |= zip(names, stacks, strict=True)
    return jax.block_until_ready(nested(loaded))


def _read(leaf: Leaf, layer: int | None, shape: Any, dtype: np.dtype, place: NamedSharding) -> jax.Array:
    slices: dict[str, np.ndarray] = {}  # devices that hold the same slice share one read

    def part(index: tuple[slice, ...] | None) -> np.ndarray:
        key = str(index)
        if key not in slices:
            slices[key] = leaf.read(layer, index or ()).astype(dtype, copy=False)
        return slices[key]

    return jax.make_array_from_callback(shape, place, part)


@functools.cache
def _fill(place: NamedSharding) -> Any:
    def fill(stack: jax.Array, piece: jax.Array, layer: Any) -> jax.Array:
        # As integers: on its way through float32 XLA would rewrite the payload of a bfloat16 NaN.
        whole = jnp.dtype(f"uint{8 * stack.dtype.itemsize}")
        bits, part = (jax.lax.bitcast_convert_type(array, whole) for array in (stack, piece))
        filled = jax.lax.dynamic_update_index_in_dim(bits, part, layer, axis=0)
        return jax.lax.bitcast_convert_type(filled, stack.dtype)

    return jax.jit(fill, donate_argnums=0, out_shardings=place)


_quantize = jax.jit(quantize, static_argnums=1)


@functools.cache
def _zeros(shape: tuple[int, ...], dtype: np.dtype, place: NamedSharding) -> Any:
    return jax.jit(lambda: jnp.zeros(shape, dtype), out_shardings=place)
