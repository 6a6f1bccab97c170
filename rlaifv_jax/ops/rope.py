"""Rotary position embedding in the rotate-half form that Hugging Face checkpoints use (arXiv 2104.09864)."""

import jax
import jax.numpy as jnp


def rotate(x: jax.Array, positions: jax.Array, theta: float) -> jax.Array:
    """Turn each pair (x_i, x_{i + C/2}) by the angle position · theta^(-2i/C).

    Args:
      x: [B, T, heads, C] queries or keys.
      positions: int32[B, T].
      theta: base of the geometric series of wavelengths.

    Returns:
      [B, T, heads, C] in `x.dtype`; angles and products are float32.
    """
    half = x.shape[-1] // 2
    frequencies = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)  # [C/2]
    angles = positions[..., None, None].astype(jnp.float32) * frequencies  # [B, T, 1, C/2]
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
