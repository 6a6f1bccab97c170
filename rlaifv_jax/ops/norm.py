"""Normalisation with float32 statistics, whatever the dtype of the activations."""

import jax
import jax.numpy as jnp


def rms_norm(x: jax.Array, scale: jax.Array, eps: float) -> jax.Array:
    """Root-mean-square normalisation of the last axis (arXiv 1910.07467), as transformers' LlamaRMSNorm.

    The normalised value is cast back to `x.dtype` before it is scaled; the scale multiplies as it is (no 1 + w).
    """
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return wide.astype(x.dtype) * scale


def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, eps: float) -> jax.Array:
    """Layer normalisation of the last axis (arXiv 1607.06450), as torch.nn.LayerNorm."""
    wide = x.astype(jnp.float32)
    wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(jnp.mean(wide * wide, axis=-1, keepdims=True) + eps)
    return (wide * scale + bias).astype(x.dtype)
