"""Flash attention (arXiv 2205.14135, 2307.08691): what the kernels for TPU and GPU have in common.

A kernel module does three things on arrays whose T and C are padded to what it can block: the forward pass, which
also saves the log-sum-exp of every query's scores, and the gradients of queries and of keys and values from it.
Here is the rest: padding, which blocks have to be visited, the custom derivative, and counting operations.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import pallas as pl

from rlaifv_jax.ops.layout import DEAD, Layout, Visits, block_states, visits

KEPT = "flash attention"  # name by which rematerialisation can keep what the forward pass saves (models.layers)

# Scores in kernels. A running maximum starts at LOWEST; a score that may not be seen is so far below that
# exp(HIDDEN - LOWEST) is 0. So a query without any key ends with sum 0, and its log-sum-exp is LOWEST, which
# makes its weights 0 in the backward pass too.
LOWEST, HIDDEN = -1e30, -1e38

# Matrix products in each kernel. The gradient of queries needs the scores again, d weights and d query; that of keys
# and values the scores, d weights, d value and d key.
PRODUCTS = {"forward": 2, "query_gradient": 3, "key_gradient": 4}


class Residuals(NamedTuple):
    """What the forward pass keeps for the backward pass, padded."""

    query: jax.Array  # [B, T, H, C]
    key: jax.Array  # [B, T, K, C]
    value: jax.Array  # [B, T, K, C]
    out: jax.Array  # [B, T, H, C]
    lse: jax.Array  # float32[B, H, 1, T] log-sum-exp of each query's scores


class Plan(NamedTuple):
    """Ids of the padded tokens and the blocks to visit."""

    ids: jax.Array  # int32[B, 8, T] segments, branches, positions, and zeros to fill a tile of 8 rows
    of_queries: Visits  # blocks of keys that a block of queries visits
    of_keys: Visits  # blocks of queries that a block of keys visits


@dataclass(frozen=True)
class How:
    """What a kernel is compiled for.

    interpret: False compiles, True (or parameters of Pallas' TPU interpreter) interprets; None compiles for the
    accelerator and interprets on a CPU, decided by the platform that the program around it is lowered for.
    """

    scale: float
    window: int | None
    causal: bool
    block_q: int
    block_k: int
    interpret: Any

    def padded(self, tokens: int) -> int:
        """The least number of tokens, `tokens` or more, that both blocks divide."""
        unit = math.lcm(self.block_q, self.block_k)
        return -(-tokens // unit) * unit


class Kernels(NamedTuple):
    """One accelerator's implementation; functions of this module call it with padded arrays."""

    block_sizes: Callable[[int, int, Any], tuple[int, int]]  # (T, C, dtype) → tokens in a block of queries, of keys
    width: Callable[[int], int]  # C → padded C
    forward: Callable[..., tuple[jax.Array, jax.Array]]  # (How, query, key, value, Plan) → (out, lse)
    backward: Callable[..., tuple[jax.Array, jax.Array, jax.Array]]  # (How, Residuals, d out, di, Plan) → d q, k, v


def choose(platform: str, interpret: Any, build: Callable[[Any], Callable[..., Any]], *operands: Any) -> Any:
    """Run `build(interpret)(*operands)`, where `interpret` may be left to the platform (see How)."""
    if interpret is not None:
        return build(interpret)(*operands)
    return jax.lax.platform_dependent(*operands, **{platform: build(False), "cpu": build(True)})


def kernel_name(how: How, part: str) -> str:
    """Name of a kernel in compiled programs: 'attention_forward', or 'tower_forward' where nothing is causal."""
    return f"{'attention' if how.causal else 'tower'}_{part}"


def cost(how: How, part: str, query: jax.Array, read: Sequence[jax.Array]) -> pl.CostEstimate:
    """What XLA should think of a kernel when it plans around it: queries [B, T, H, C], all arrays that it reads.

    Exact for towers; of causal rows half of the scores are taken to be live.
    """
    b, t, heads, width = query.shape
    scores = b * heads * t * t // (2 if how.causal else 1)
    return pl.CostEstimate(
        flops=2 * PRODUCTS[part] * scores * width,
        transcendentals=scores,
        bytes_accessed=sum(x.size * x.dtype.itemsize for x in read),
    )


def product(a: jax.Array, b: jax.Array, axis_a: int, axis_b: int) -> jax.Array:
    """float32 product of two matrices over one axis of each, for use in kernels.

    Operands of float32 are multiplied as such, not rounded to bfloat16 or TF32 as accelerators do by default.
    """
    return jax.lax.dot_general(
        a,
        b,
        (((axis_a,), (axis_b,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None,
        preferred_element_type=jnp.float32,
    )


def _padded(x: Any, axis: int, size: int) -> jax.Array:
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, size - x.shape[axis])
    return jnp.pad(x, widths)


def _padded_layout(
    layout: Layout | None, rows: int, tokens: int, size: int, lengths: jax.Array | None = None
) -> Layout:
    """int32[B, size] ids; where there is no layout all real tokens are in one segment."""
    if layout is None:
        zeros = jnp.zeros((rows, tokens), jnp.int32)
        real = zeros + 1 if lengths is None else jnp.arange(tokens) < lengths[:, None]
        layout = Layout(real, zeros, zeros)
    return Layout(*(_padded(jnp.asarray(x, jnp.int32), 1, size) for x in layout))


def _states(layout: Layout, how: How) -> jax.Array:
    return block_states(layout, how.block_q, how.block_k, window=how.window, causal=how.causal)


def _plan(layout: Layout, how: How) -> Plan:
    states = _states(layout, how)
    ids = _padded(jnp.stack(layout, axis=1), 1, 8)
    return Plan(ids, visits(states), visits(states.swapaxes(1, 2)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(kernels: Kernels, how: How, query: jax.Array, key: jax.Array, value: jax.Array, plan: Plan) -> jax.Array:
    return kernels.forward(how, query, key, value, plan)[0]


def _attend_forward(
    kernels: Kernels, how: How, query: jax.Array, key: jax.Array, value: jax.Array, plan: Plan
) -> tuple[jax.Array, tuple[Residuals, Plan]]:
    out, lse = (checkpoint_name(x, KEPT) for x in kernels.forward(how, query, key, value, plan))
    return out, (Residuals(query, key, value, out, lse), plan)


def _attend_backward(
    kernels: Kernels, how: How, kept: tuple[Residuals, Plan], d_out: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    saved, plan = kept
    di = jnp.sum(saved.out.astype(jnp.float32) * d_out.astype(jnp.float32), axis=-1)  # [B, T, H]
    di = di.swapaxes(1, 2)[:, :, None]  # [B, H, 1, T]
    return *kernels.backward(how, saved, d_out, di, plan), None


_attend.defvjp(_attend_forward, _attend_backward)


def flash(
    kernels: Kernels,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    *,
    layout: Layout | None,
    scale: float,
    window: int | None,
    lengths: jax.Array | None = None,
    interpret: Any = None,
    blocks: tuple[int, int] | None = None,
) -> jax.Array:
    """Attention by one accelerator's kernels; arguments and result as rlaifv_jax.ops.attention.attention.

    Args:
      kernels: flash_tpu.KERNELS or flash_gpu.KERNELS.
      query: [B, T, H, C]; key, value: [B, T, K, C]; bfloat16 or float32.
      layout, scale, window, lengths: as in `attention`.
      interpret: see How.
      blocks: tokens in a block of queries and of keys instead of the kernels' own choice.

    Raises:
      ValueError: a dtype that the kernels do not compute in.
    """
    b, t, _, c = query.shape
    if query.dtype not in (jnp.bfloat16, jnp.float32):
        raise ValueError(f"flash attention computes in bfloat16 and float32, not in {query.dtype}")
    how = How(scale, window, layout is not None, *(blocks or kernels.block_sizes(t, c, query.dtype)), interpret)
    size, width = how.padded(t), kernels.width(c)
    plan = _plan(_padded_layout(layout, b, t, size, lengths), how)
    operands = (_padded(_padded(x, 3, width), 1, size) for x in (query, key, value))
    return _attend(kernels, how, *operands, plan)[:, :t, :, :c]


def kernel_flops(
    kernels: Kernels, layout: Layout, heads: int, width: int, dtype: Any, *, window: int | None
) -> dict[str, float]:
    """Operations that one call of each kernel executes for rows of this layout, by the kernel's name.

    Blocks that are visited × area of a block × 2 × padded head width × PRODUCTS. Padding and masked pairs inside
    visited blocks count, softmax does not. Compare with rlaifv_jax.flops, which counts what the model asks for.

    Args:
      kernels: flash_tpu.KERNELS or flash_gpu.KERNELS.
      layout: int32[B, T] arrays of NumPy or JAX.
      heads: H, query heads. width: C. dtype: of the operands. window: as in `attention`.
    """
    rows, tokens = layout.segments.shape
    how = How(1.0, window, True, *kernels.block_sizes(tokens, width, dtype), None)
    states = _states(_padded_layout(layout, rows, tokens, how.padded(tokens)), how)
    live = int(np.sum(np.asarray(states) != DEAD))
    product = 2.0 * live * heads * how.block_q * how.block_k * kernels.width(width)
    return {kernel_name(how, part): count * product for part, count in PRODUCTS.items()}
