"""What is kept of running prompts: keys and values, for every layer a prefix for each prompt, once, and a suffix for
each branch; and the little beside that.

See ops/cached.py for the two layouts.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlaifv_jax.models.decoder import DecoderConfig
from rlaifv_jax.ops.cached import COLUMNS, Cached, Stored, empty, store

SUFFIX_STEP = 16  # columns; the suffix's length is a multiple of it, and of COLUMNS beyond that


class Prompts(NamedTuple):
    lengths: jax.Array  # int32[G] positions
    first: jax.Array  # float32[G, V] logits behind them
    keys: jax.Array  # uint32[G, 2] of their randomness
    said: jax.Array | None  # bool[G, V] tokens that answers begin with, where repetition is penalised


class Cache(NamedTuple):
    """One entry a layer."""

    prefix: list[Cached]
    suffix: list[Cached]


@dataclass(frozen=True)
class CacheShape:
    """prompts: G. branches: N of every prompt. together: whether a prompt's branches share their suffixes (beams).
    prefix: P positions. suffix: S columns. dtype: 'bfloat16', 'float32' or 'int8'."""

    prompts: int
    branches: int
    together: bool
    prefix: int
    suffix: int
    dtype: str

    @property
    def families(self) -> int:
        return self.prompts if self.together else self.prompts * self.branches


def suffix_columns(new_tokens: int) -> int:
    """Columns for answers of so many tokens."""
    step = SUFFIX_STEP if new_tokens <= COLUMNS else COLUMNS
    return -(-new_tokens // step) * step


def new_cache(config: DecoderConfig, shape: CacheShape) -> Cache:
    """Zeros."""
    families, k, c = shape.families, config.kv_heads, config.head_width
    members = shape.prompts * shape.branches // families

    def layers(*sizes: int) -> list[Cached]:
        return [Cached(empty((*sizes, c), shape.dtype), empty((*sizes, c), shape.dtype)) for _ in range(config.layers)]

    return Cache(layers(shape.prompts, k, shape.prefix), layers(families, k, members, shape.suffix))


def prompt_bytes(config: DecoderConfig, shape: CacheShape) -> int:
    """Bytes that one prompt with its branches takes, over all devices."""
    width = config.head_width * (1 if shape.dtype == "int8" else jnp.dtype(shape.dtype).itemsize)
    scale = 4 if shape.dtype == "int8" else 0
    columns = shape.prefix + shape.branches * shape.suffix
    return 2 * config.layers * config.kv_heads * columns * (width + scale)


def new_prefix(key: jax.Array, value: jax.Array, dtype: str) -> Cached:
    """Keys and values [r, P, K, C] of new prompts as the cache keeps them."""
    return Cached(store(key.swapaxes(1, 2), dtype), store(value.swapaxes(1, 2), dtype))


def put_prefix(cached: Cached, new: Cached, slots: jax.Array) -> Cached:
    """New prompts into their slots int32[r]; one out of range is left out. They may be shorter than the slots."""
    length = new.key.values.shape[2]
    return jax.tree.map(lambda old, leaf: old.at[slots, :, :length].set(leaf, mode="drop"), cached, new)


def put_suffix(cached: Cached, key: jax.Array, value: jax.Array, columns: jax.Array) -> Cached:
    """Keys and values [G, N, K, C] of one new token of every branch, into the columns int32[F] of their families."""
    families, k, members, _, c = cached.key.values.shape

    def write(old: jax.Array, leaf: jax.Array, column: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(old, leaf[:, :, None], column, axis=2)

    def put(stored: Stored, x: jax.Array) -> Stored:
        new = store(x.reshape(families, members, k, c).swapaxes(1, 2), str(stored.values.dtype))
        return jax.tree.map(lambda old, leaf: jax.vmap(write)(old, leaf, columns), stored, new)

    return Cached(put(cached.key, key), put(cached.value, value))
