"""Attention: one entry point for towers and decoders, whichever backend computes it.

    dense       written out; materialises all scores, runs anywhere, and is what the others are tested against
    blocked     block by block in plain XLA, see blocked.py; the choice for CPUs
    flash_tpu   the kernels of flash_tpu.py; interpreted on a CPU
    flash_gpu   the kernels of flash_gpu.py; interpreted on a CPU
    cudnn       NVIDIA's kernels by way of jax.nn, for towers only: they know no branches

New tokens of a generation attend to a cache instead of a row: `cached_attention`, see cached.py.

Who sees whom is said by a Layout and a sliding window, see rlaifv_jax.ops.layout.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rlaifv_jax.ops import flash_gpu, flash_tpu
from rlaifv_jax.ops.blocked import blocked
from rlaifv_jax.ops.cached import cached_attention
from rlaifv_jax.ops.flash import Kernels, flash
from rlaifv_jax.ops.layout import Layout, allowed
from rlaifv_jax.parallel import spec

__all__ = [
    "BACKENDS",
    "DECODER_BACKENDS",
    "KERNELS",
    "Layout",
    "attention",
    "cached_attention",
    "default_backend",
]

KERNELS: dict[str, Kernels] = {"flash_tpu": flash_tpu.KERNELS, "flash_gpu": flash_gpu.KERNELS}
DECODER_BACKENDS = ("dense", "blocked", *KERNELS)
BACKENDS = (*DECODER_BACKENDS, "cudnn")  # of towers


def default_backend(platform: str) -> str:
    """The backend for devices whose `platform` is 'tpu', 'gpu', 'cuda' or 'cpu'."""
    return {"tpu": "flash_tpu", "gpu": "flash_gpu", "cuda": "flash_gpu"}.get(platform, "blocked")


def attention(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    layout: Layout | None,
    scale: float,
    window: int | None,
    backend: str,
    lengths: jax.Array | None = None,
) -> jax.Array:
    """Scaled dot-product attention (arXiv 1706.03762) with grouped key/value heads.

    Args:
      query: [B, T, H, C].
      key: [B, T, K, C]; query head h reads key/value head h // (H/K).
      value: [B, T, K, C].
      layout: prefixes and branches of the rows; None lets every token see every other (image towers).
      scale: factor on the scores, C**-0.5 in every shipped model.
      window: positions that a query sees, itself included (Mistral's sliding_window, arXiv 2310.06825); None: all.
      backend: one of BACKENDS.
      lengths: int32[B], for rows without a layout that are padded at their ends: how many keys of each are real. Nobody
        sees those behind; None: all are real.

    Returns:
      [B, T, H, C] in `query.dtype`. Scores, softmax and sums are float32. Padding (segment 0) attends to nothing:
      its output is 0, and so is every gradient that belongs to it. With lengths, what stands behind them is finite and
      means nothing, as all of a row does whose length is 0.

    Raises:
      ValueError: a backend that does not exist, or cannot do what is asked.
    """
    if backend not in BACKENDS:
        raise ValueError(f"unknown attention backend {backend!r}; there are {', '.join(BACKENDS)}")
    if window is not None and layout is None:
        raise ValueError("a sliding window needs a layout, whose positions it counts")
    if lengths is not None and layout is not None:
        raise ValueError("a layout says by itself what is padding; lengths are for rows without one")
    if backend == "cudnn":
        if layout is not None:
            raise ValueError(
                "attention backend 'cudnn' cannot tell prefixes from branches; it serves image towers only. "
                f"Decoders need one of {', '.join(DECODER_BACKENDS)}."
            )
        return _cudnn(query, key, value, scale, lengths)
    if backend == "dense":
        mask = allowed(layout, window) if layout is not None else _real(lengths, key.shape[1])
        return _dense(query, key, value, mask, scale)
    if backend == "blocked":
        return blocked(query, key, value, layout=layout, scale=scale, window=window, lengths=lengths)

    def attend(
        query: jax.Array, key: jax.Array, value: jax.Array, layout: Layout | None, lengths: jax.Array | None
    ) -> jax.Array:
        return flash(KERNELS[backend], query, key, value, layout=layout, scale=scale, window=window, lengths=lengths)

    return _sharded(attend, query, key, value, layout, lengths)


def _real(lengths: jax.Array | None, tokens: int) -> jax.Array | None:
    """bool[B, 1, T] of keys."""
    return None if lengths is None else (jnp.arange(tokens) < lengths[:, None])[:, None]


def _dense(query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None, scale: float) -> jax.Array:
    """mask: bool that broadcasts to [B, queries, keys]."""
    b, t, h, c = query.shape
    k = key.shape[2]
    grouped = query.reshape(b, t, k, h // k, c)
    scores = jnp.einsum("btkgc,bskc->bkgts", grouped, key, preferred_element_type=jnp.float32) * scale
    if mask is None:
        weights = jax.nn.softmax(scores, axis=-1)
    else:
        mask = mask[:, None, None]  # for all heads
        weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(jnp.float32).min), axis=-1)
        weights = jnp.where(mask, weights, 0)  # padding sees nothing, where the softmax of nothing is uniform
    return jnp.einsum("bkgts,bskc->btkgc", weights.astype(value.dtype), value).reshape(b, t, h, c)


def _cudnn(query: jax.Array, key: jax.Array, value: jax.Array, scale: float, lengths: jax.Array | None) -> jax.Array:
    b, t = query.shape[:2]
    # JAX refuses gradients of an odd number of tokens, such as the 577 of a tower.
    query, key, value = (jnp.pad(x, ((0, 0), (0, t % 2), (0, 0), (0, 0))) for x in (query, key, value))
    whole = jnp.full(b, t, jnp.int32)
    out = jax.nn.dot_product_attention(
        query,
        key,
        value,
        scale=scale,
        query_seq_lengths=whole,
        key_value_seq_lengths=whole if lengths is None else jnp.maximum(lengths, 1),  # it has no softmax of nothing
        implementation="cudnn",
    )
    return out[:, :t]


def _sharded(
    attend: Callable[..., jax.Array],
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    layout: Layout | None,
    lengths: jax.Array | None,
) -> jax.Array:
    """Run `attend` on every device's own rows and heads, since XLA cannot partition a kernel; without a mesh, as is.

    What the mesh does not divide is computed whole on every device: rows, and all heads if there are too few
    key/value heads, next to which their query heads have to lie.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return attend(query, key, value, layout, lengths)
    heads = spec(("batch", None, "heads", None), key.shape, mesh)
    rows = spec(("batch", None), query.shape[:2], mesh)
    counts = spec(("batch",), query.shape[:1], mesh)
    mapped = jax.shard_map(attend, in_specs=(heads, heads, heads, rows, counts), out_specs=heads, check_vma=False)
    return mapped(query, key, value, layout, lengths)
