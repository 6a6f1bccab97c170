"""Attention of new tokens to a cache: a prefix that all branches of a prompt share, and what each has added.

    prefix  [G, K, P, C]      once for each of G prompts, however many branches it has
    suffix  [F, K, B, S, C]   of F families of B branches

A family is whatever shares a suffix: one sample stands alone (F = all branches, B = 1), beams of a prompt see each
other's columns (F = G), so that none of them has to be copied when a beam continues another one. Prefix and suffix
meet by their log-sum-exps, so neither is copied nor concatenated. Only as many columns of the suffix are read as the
longest branch has; what lies behind a branch's own end adds exactly nothing to it, so its bits do not depend on its
neighbours.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlaifv_jax.ops.flash import HIDDEN, LOWEST

COLUMNS = 128  # of the suffix that are read at once
INT8_MAX = 127


class Stored(NamedTuple):
    """Keys or values, heads before tokens: [..., K, T, C]. scales: float32[..., K, T] for int8, else None."""

    values: jax.Array
    scales: jax.Array | None


class Cached(NamedTuple):
    """One layer's keys and values."""

    key: Stored
    value: Stored


class Sight(NamedTuple):
    """What new tokens may see.

    prefix_lengths: int32[G]. positions: int32[G, N] of the new tokens. columns: bool[F, B, B, S], query branches before
    key branches. column_positions: int32[F, S]. used: int32[], columns of the longest branch.
    """

    prefix_lengths: jax.Array
    positions: jax.Array
    columns: jax.Array
    column_positions: jax.Array
    used: jax.Array


class _Part(NamedTuple):
    """Attention to some of the keys, not normalised, float32: [X, K, Q, C] and twice [X, K, Q, 1], later by branch."""

    out: jax.Array
    highest: jax.Array
    total: jax.Array


def store(x: jax.Array, dtype: str) -> Stored:
    """[..., C] in the cache's dtype; int8 with one scale for each vector."""
    if dtype != "int8":
        return Stored(x.astype(dtype), None)
    scales = jnp.max(jnp.abs(x.astype(jnp.float32)), axis=-1) / INT8_MAX
    safe = jnp.where(scales == 0, 1, scales)[..., None]
    return Stored(jnp.round(x.astype(jnp.float32) / safe).astype(jnp.int8), scales)


def empty(shape: tuple[int, ...], dtype: str) -> Stored:
    """Zeros of [..., C]."""
    return store(jnp.zeros(shape, jnp.float32 if dtype == "int8" else dtype), dtype)


def cached_attention(
    query: jax.Array, prefix: Cached, suffix: Cached, sight: Sight, *, scale: float, window: int | None
) -> jax.Array:
    """One new token of every branch, whose own key and value are in the suffix already.

    Args:
      query: [G, N, H, C], query head h reads key/value head h // (H/K).
      prefix, suffix: as above, G·N = F·B branches in the same order.
      scale: factor on the scores.
      window: positions that a query sees, itself included (arXiv 2310.06825); None: all.

    Returns:
      [G, N, H, C] in `query.dtype`; scores, softmax and sums are float32.
    """
    g, n, h, c = query.shape
    k = prefix.key.values.shape[1]
    families, _, members, columns, _ = suffix.key.values.shape

    # ---- what all branches share
    place = jnp.arange(prefix.key.values.shape[2])
    seen = jnp.broadcast_to(place < sight.prefix_lengths[:, None, None], (g, n, len(place)))
    if window is not None:
        seen &= sight.positions[..., None] - place < window
    shared = _attend(_grouped(query, k), prefix, _per_query(seen, h // k), scale)
    shared = jax.tree.map(lambda x: _branches(x, n), shared)

    # ---- what they have added, a few columns at a time
    alone = _grouped(query.reshape(families, members, h, c), k)
    positions = sight.positions.reshape(families, members)
    step = min(COLUMNS, columns)

    def add(number: jax.Array, part: _Part) -> _Part:
        def cut(x: jax.Array, axis: int) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(x, number * step, step, axis)

        some = jax.tree.map(lambda x: cut(x, 3).reshape(families, k, members * step, *x.shape[4:]), suffix)
        seen = cut(sight.columns, 3)  # [F, B, B, step]
        if window is not None:
            seen &= (positions[..., None] - cut(sight.column_positions, 1)[:, None] < window)[:, :, None]
        seen = _per_query(seen.reshape(families, members, members * step), h // k)
        return _meet(part, _attend(alone, some, seen, scale))

    nothing = jnp.zeros((*alone.shape[:3], 1))
    own = _Part(jnp.zeros(alone.shape), nothing + LOWEST, nothing)
    if columns == step:
        own = add(jnp.zeros((), jnp.int32), own)
    else:
        own = jax.lax.fori_loop(0, (sight.used + step - 1) // step, add, own)
    own = jax.tree.map(lambda x: _branches(x, members).reshape(g, n, *x.shape[1:2], -1, x.shape[-1]), own)
    met = _meet(shared, own)
    return (met.out / met.total).reshape(g, n, h, c).astype(query.dtype)


def _grouped(query: jax.Array, k: int) -> jax.Array:
    """[X, n, H, C] → [X, K, n·H/K, C]: all queries that read one key/value head, one matrix."""
    x, n, h, c = query.shape
    return query.reshape(x, n, k, h // k, c).swapaxes(1, 2).reshape(x, k, n * (h // k), c)


def _branches(x: jax.Array, n: int) -> jax.Array:
    """Back: [X, K, n·H/K, c] → [X, n, K, H/K, c]."""
    return x.reshape(*x.shape[:2], n, -1, x.shape[-1]).swapaxes(1, 2)


def _per_query(seen: jax.Array, heads: int) -> jax.Array:
    """bool[X, n, T] → bool[X, 1, n·heads, T]."""
    return jnp.repeat(seen, heads, axis=1)[:, None]


def _attend(query: jax.Array, cached: Cached, seen: jax.Array, scale: float) -> _Part:
    """[X, K, Q, C] queries to [X, K, T, C] keys and values."""
    key, value = cached
    scores = scale * _product("xkqc,xktc->xkqt", query, key.values.astype(query.dtype))
    if key.scales is not None:
        scores = scores * key.scales[:, :, None]
    scores = jnp.where(seen, scores, HIDDEN)
    highest = jnp.maximum(scores.max(-1, keepdims=True), LOWEST)
    weights = jnp.exp(scores - highest)
    total = weights.sum(-1, keepdims=True)
    if value.scales is not None:
        weights = weights * value.scales[:, :, None]
    out = _product("xkqt,xktc->xkqc", weights.astype(query.dtype), value.values.astype(query.dtype))
    return _Part(out, highest, total)


def _meet(one: _Part, other: _Part) -> _Part:
    """Attention to the keys of both."""
    highest = jnp.maximum(one.highest, other.highest)
    left, right = jnp.exp(one.highest - highest), jnp.exp(other.highest - highest)
    return _Part(one.out * left + other.out * right, highest, one.total * left + other.total * right)


def _product(letters: str, one: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.einsum(letters, one, other, preferred_element_type=jnp.float32)
