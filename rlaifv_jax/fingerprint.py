"""Short names for large things: a model's weights, a set of settings."""

import hashlib
import json
from typing import Any

import jax
import jax.numpy as jnp

from rlaifv_jax.models.blueprint import Params


def settings_fingerprint(settings: Any) -> str:
    """Hash of anything JSON can hold; equal settings give equal names."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _checksum(leaf: jax.Array) -> jax.Array:
    """uint32[]: every bit of the array, weighted by its place, summed modulo 2^32.

    Integer sums do not depend on their order, so the result is the same on every mesh.
    """
    width = {2: jnp.uint16, 4: jnp.uint32}[leaf.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(leaf, width).astype(jnp.uint32)
    place = jnp.zeros(leaf.shape, jnp.uint32)
    for axis, size in enumerate(leaf.shape):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, leaf.shape, axis)
    return jnp.sum(bits * ((place * jnp.uint32(2654435761)) | jnp.uint32(1)), dtype=jnp.uint32)


def model_fingerprint(params: Params, dtype: str) -> str:
    """Hash over all weights as they are in precision `dtype`; runs on the devices, in one pass.

    The same weights give the same name from any checkpoint layout and on any mesh.
    """
    sums = jax.jit(lambda tree: jax.tree.map(lambda leaf: _checksum(leaf.astype(dtype)), tree))(params)
    leaves = zip(jax.tree.leaves_with_path(sums), jax.tree.leaves(params), strict=True)
    named = {
        jax.tree_util.keystr(path, simple=True, separator="/"): [int(value), list(leaf.shape)]
        for (path, value), leaf in leaves
    }
    return settings_fingerprint(named)
