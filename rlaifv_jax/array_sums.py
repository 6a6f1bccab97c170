"""A number for every array of a state, by which one knows it again: the same on any mesh, and cheap.

TensorStore's checksums cover its index, not the data: a bit that flips in a file of weights is read as if nothing had
been (docs/reliability.md). These sums are taken on the devices, by one pass over their memory.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rlaifv_jax import parallel

WORDS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}  # by bytes of an element


def array_sums(tree: Any, mesh: jax.sharding.Mesh) -> dict[str, int]:
    """{path: sum modulo 2³² of the elements' bits, each times an odd number that goes with its place}.

    No sum of a change of one element, and hardly one of several, is zero. Integers are added exactly, so shards and the
    order of addition do not matter. Every process must call this.
    """
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    sums = _summing(parallel.replicated(mesh))([leaf for _, leaf in leaves])
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    return dict(zip(paths, map(int, np.asarray(sums)), strict=True))


@functools.cache
def _summing(everywhere: jax.sharding.NamedSharding) -> Any:
    """A function that is compiled once: list of arrays → uint32[arrays]."""
    return jax.jit(lambda leaves: jnp.stack([_sum(leaf) for leaf in leaves]), out_shardings=everywhere)


def _sum(leaf: jax.Array) -> jax.Array:
    bits = lax.bitcast_convert_type(leaf, WORDS[leaf.dtype.itemsize]).astype(jnp.uint32)
    place = jnp.zeros(leaf.shape, jnp.uint32)
    for axis, size in enumerate(leaf.shape):
        place = place * jnp.uint32(size % 2**32) + lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
    return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)
