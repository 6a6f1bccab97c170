"""Dropout by a hash of an element's place in its batch: a few integer operations each, the same on every mesh.

Where the rows of a batch are others, so is what is dropped. JAX's own generator, Threefry, takes about twenty times as
many operations, which for adapters in all layers would be a tenth of a training step and most of its compilation. For
dropout a hash will do; nothing else here draws by it.
"""

import jax
import jax.numpy as jnp
import numpy as np

GOLDEN = np.uint32(0x9E3779B9)  # odd, so that no two elements of a token get the same number


def dropout(x: jax.Array, key: jax.Array, rate: float) -> jax.Array:
    """Zero a share `rate` of the elements and scale the others so that the mean stays. key: uint32[2]."""
    kept = _hashed(x.shape, key) >= jnp.uint32(round(rate * 2**32))
    return jnp.where(kept, x * (1 / (1 - rate)), 0).astype(x.dtype)


def _hashed(shape: tuple[int, ...], key: jax.Array) -> jax.Array:
    """uint32[shape]: of every token, by its place, a start; of its elements each GOLDEN-th number from there, mixed."""
    tokens = (*shape[:-1], 1)
    place = jnp.zeros(tokens, jnp.uint32)
    for axis, size in enumerate(tokens):
        place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, tokens, axis)
    start = _mix(_mix(place ^ key[0]) + key[1])
    return _mix(start + jax.lax.broadcasted_iota(jnp.uint32, shape, len(shape) - 1) * GOLDEN)


def _mix(bits: jax.Array) -> jax.Array:
    """The finalizer of MurmurHash3 (Appleby, public domain): every bit depends on all, and none is lost."""
    bits = (bits ^ (bits >> 16)) * jnp.uint32(0x85EBCA6B)
    bits = (bits ^ (bits >> 13)) * jnp.uint32(0xC2B2AE35)
    return bits ^ (bits >> 16)
