"""Attention in plain XLA without all scores at once: for CPUs, and wherever no kernel can go.

Queries are taken in a few blocks; a causal block meets only the keys up to its end, so 0.58 of the T² scores are
computed (6 blocks), and the largest array is [B, H, T/6, T]. The backward pass computes scores again from the saved
log-sum-exp (arXiv 2205.14135) instead of keeping them. XLA compiles a handful of large matrix products from it, which
is what a CPU does best.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from rlaifv_jax.ops.flash import HIDDEN, KEPT, LOWEST
from rlaifv_jax.ops.layout import Layout, sees

BLOCKS = 6  # of queries; 4 to 8 are equally fast at T = 800 on two cores
TILE = 16  # tokens that a block is a multiple of


def blocked(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    layout: Layout | None,
    scale: float,
    window: int | None,
    lengths: jax.Array | None,
) -> jax.Array:
    """See rlaifv_jax.ops.attention.attention."""
    b, t, h, c = query.shape
    k = key.shape[2]
    grouped = query.reshape(b, t, k, h // k, c).transpose(0, 2, 3, 1, 4)  # [B, K, G, T, C]
    out = _attend(scale, window, grouped, key.swapaxes(1, 2), value.swapaxes(1, 2), Hiding(layout, lengths))
    return out.transpose(0, 3, 1, 2, 4).reshape(b, t, h, c).astype(query.dtype)


class Hiding(NamedTuple):
    """Who sees whom, see rlaifv_jax.ops.attention.attention; not more than one of the two is given."""

    layout: Layout | None
    lengths: jax.Array | None


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(
    scale: float, window: int | None, query: jax.Array, key: jax.Array, value: jax.Array, hiding: Hiding
) -> jax.Array:
    """[B, K, G, T, C], [B, K, T, C] twice → [B, K, G, T, C]."""
    return _forward(scale, window, query, key, value, hiding)[0]


def _forward(
    scale: float, window: int | None, query: jax.Array, key: jax.Array, value: jax.Array, hiding: Hiding
) -> tuple[jax.Array, Any]:
    outs, sums = [], []
    for place, keys in _blocks(query.shape[3], causal=hiding.layout is not None):
        scores = _scores(query[..., place, :], key[:, :, keys], hiding, place, keys, scale, window)
        highest = jnp.maximum(scores.max(-1, keepdims=True), LOWEST)
        weights = jnp.exp(scores - highest)
        total = weights.sum(-1, keepdims=True)
        total = jnp.where(total == 0, 1, total)  # padding sees nothing
        mixed = _product("bkgts,bksc->bkgtc", weights.astype(value.dtype), value[:, :, keys])
        outs.append((mixed / total).astype(value.dtype))
        sums.append(highest + jnp.log(total))
    out = checkpoint_name(jnp.concatenate(outs, axis=3), KEPT)
    lse = checkpoint_name(jnp.concatenate(sums, axis=3), KEPT)  # float32[B, K, G, T, 1]
    return out, (query, key, value, hiding, out, lse)


def _backward(
    scale: float, window: int | None, saved: Any, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    query, key, value, hiding, out, lse = saved
    inner = jnp.sum(out.astype(jnp.float32) * gradient, axis=-1, keepdims=True)
    to_query = []
    to_key, to_value = jnp.zeros(key.shape, jnp.float32), jnp.zeros(value.shape, jnp.float32)
    for place, keys in _blocks(query.shape[3], causal=hiding.layout is not None):
        q, g = query[..., place, :], gradient[..., place, :]
        weights = jnp.exp(_scores(q, key[:, :, keys], hiding, place, keys, scale, window) - lse[..., place, :])
        to_weights = _product("bkgtc,bksc->bkgts", g, value[:, :, keys])
        to_scores = (scale * weights * (to_weights - inner[..., place, :])).astype(query.dtype)
        to_query.append(_product("bkgts,bksc->bkgtc", to_scores, key[:, :, keys]))
        to_key = to_key.at[:, :, keys].add(_product("bkgts,bkgtc->bksc", to_scores, q))
        to_value = to_value.at[:, :, keys].add(_product("bkgts,bkgtc->bksc", weights.astype(g.dtype), g))
    return (
        jnp.concatenate(to_query, axis=3).astype(query.dtype),
        to_key.astype(key.dtype),
        to_value.astype(value.dtype),
        None,
    )


_attend.defvjp(_forward, _backward)


def _blocks(length: int, *, causal: bool) -> list[tuple[slice, slice]]:
    """(queries, keys) of every block. Towers have rows so short that one block is best."""
    if not causal:
        return [(slice(0, length), slice(0, length))]
    size = -(-length // (BLOCKS * TILE)) * TILE
    ends = [(start, min(start + size, length)) for start in range(0, length, size)]
    return [(slice(start, end), slice(0, end)) for start, end in ends]


def _scores(
    query: jax.Array,
    key: jax.Array,
    hiding: Hiding,
    place: slice,
    keys: slice,
    scale: float,
    window: int | None,
) -> jax.Array:
    """float32[B, K, G, t, s], HIDDEN where a query may not look."""
    scores = scale * _product("bkgtc,bksc->bkgts", query, key)
    rows = jnp.arange(keys.stop)
    if hiding.lengths is not None:
        return jnp.where(rows < hiding.lengths[:, None, None, None, None], scores, HIDDEN)
    if hiding.layout is None:
        return scores
    of_queries = jax.tree.map(lambda ids: ids[:, place, None], hiding.layout)
    of_keys = jax.tree.map(lambda ids: ids[:, None, keys], hiding.layout)
    mask = sees(of_queries, of_keys, rows[place, None], rows[None, keys], window=window, causal=True)
    return jnp.where(mask[:, None, None], scores, HIDDEN)


_product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)
