"""Attention: one entry point for towers and decoders, whichever backend computes it.

Training rows hold a shared prefix and several branches (see rlaifv_jax.data.batch). Who may look at whom is
said by two integer vectors, never by a mask that somebody has to build:

    query i attends to key j  ⇔  segment[i] = segment[j]  ∧  j ≤ i  ∧  (branch[j] = 0  ∨  branch[j] = branch[i])
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

BACKENDS = ("dense",)


class Layout(NamedTuple):
    """Which prefix and branch every token of a row belongs to: both int32[B, T]."""

    segments: jax.Array
    branches: jax.Array


def allowed(layout: Layout) -> jax.Array:
    """The rule above as bool[B, T, T], queries before keys."""
    segments, branches = layout
    rows = jnp.arange(segments.shape[-1])
    same_segment = segments[:, :, None] == segments[:, None, :]
    visible_branch = (branches[:, None, :] == 0) | (branches[:, :, None] == branches[:, None, :])
    earlier = rows[:, None] >= rows[None, :]
    return same_segment & visible_branch & earlier


def attention(
    query: jax.Array, key: jax.Array, value: jax.Array, *, layout: Layout | None, scale: float, backend: str
) -> jax.Array:
    """Scaled dot-product attention (arXiv 1706.03762) with grouped key/value heads.

    Args:
      query: [B, T, H, C].
      key, value: [B, T, K, C]; query head h reads key/value head h // (H/K).
      layout: prefixes and branches of the rows; None lets every token see every other (image towers).
      scale: factor on the scores, C**-0.5 in every shipped model.
      backend: one of BACKENDS.

    Returns:
      [B, T, H, C] in `query.dtype`. Scores and softmax are float32.
    """
    if backend != "dense":
        raise ValueError(f"unknown attention backend {backend!r}; this version has {', '.join(BACKENDS)}")
    b, t, h, c = query.shape
    k = key.shape[2]
    grouped = query.reshape(b, t, k, h // k, c)
    scores = jnp.einsum("btkgc,bskc->bkgts", grouped, key, preferred_element_type=jnp.float32) * scale
    if layout is not None:
        mask = allowed(layout)[:, None, None]  # [B, 1, 1, T, T]
        scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)  # [B, K, H/K, T, T]
    return jnp.einsum("bkgts,bskc->btkgc", weights, value).reshape(b, t, h, c)
