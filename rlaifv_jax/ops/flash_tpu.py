"""Flash attention for TPUs in Pallas.

Arrays stay as the projections write them, [B, T, heads · C], and a block is the part of one head: nothing is
transposed in HBM. Scores are held transposed, keys before queries, so that a query's maximum, sum and saved
log-sum-exp are rows of a register tile and not columns, and the gradients of keys and values are plain products.

The grid steps over the blocks in the order of layout.Visits. Steps past the last live block compute nothing, and
their block index repeats, so they fetch nothing.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from rlaifv_jax.ops.flash import HIDDEN, LOWEST, How, Kernels, Plan, Residuals, choose, cost, kernel_name, product
from rlaifv_jax.ops.layout import Layout, sees

LANES = 128

# A grid step costs about as much as this many scores (an estimate: 0.35 µs on a v5e, which computes the scores of
# 512 × 512 tokens in about 1.4 µs).
STEP = 256 * 256


def block_sizes(tokens: int, width: int, dtype: Any) -> tuple[int, int]:
    """Tokens in a block of queries and in a block of keys, equal: the multiple of 128 with the least work.

    Work is the area of causal blocks of the padded row plus `STEP` for every step of the grid. So a block is large
    unless much of it would be padding: 640 for the 577 tokens of a tower, 512 for 2048. Limits keep the kernels
    within the 16 MiB of VMEM of a TPU v4: 640 in bfloat16, 384 in float32 or for wide heads.
    """
    limit = 384 if dtype == jnp.float32 or width > LANES else 640

    def work(block: int) -> int:
        n = pl.cdiv(tokens, block)
        return n * (n + 1) // 2 * block * block + n * n * STEP

    block = min(range(LANES, limit + 1, LANES), key=work)
    return block, block


def _padded_width(width: int) -> int:
    return pl.cdiv(width, LANES) * LANES


def _scores(how: How, query: jax.Array, key: jax.Array, ids: tuple[Any, Any] | None, i: Any, j: Any) -> jax.Array:
    """float32[keys, queries] scores of query block i and key block j; `ids` where some pairs are hidden."""
    scores = product(key, query, 1, 1) * how.scale
    if ids is None:
        return scores
    rows = ids[0][0]  # [8, queries]
    columns = ids[1][0].T  # [keys, 8]
    query_ids = Layout(*(rows[n : n + 1] for n in range(3)))
    key_ids = Layout(*(columns[:, n : n + 1] for n in range(3)))
    query_rows = i * how.block_q + lax.broadcasted_iota(jnp.int32, (1, how.block_q), 1)
    key_rows = j * how.block_k + lax.broadcasted_iota(jnp.int32, (how.block_k, 1), 0)
    mask = sees(query_ids, key_ids, query_rows, key_rows, window=how.window, causal=how.causal)
    return jnp.where(mask, scores, HIDDEN)


def _visit(full: Any, live: Any, step: Any, body: Any, ids: tuple[Any, Any]) -> None:
    """Run `body(None)` in a fully visible block, `body(ids)` in a partly visible one, nothing in a dead one."""
    pl.when(step < full)(lambda: body(None))
    pl.when((step >= full) & (step < live))(lambda: body(ids))


def _forward_kernel(
    order, full, live, query, key, value, query_ids, key_ids, out, lse, mixed, top, total, *, how: How, steps: int
):  # fmt: skip
    """Grid (B, H, query blocks, steps). mixed: float32[C, queries]; top, total: float32[1, queries]."""
    i, step = pl.program_id(2), pl.program_id(3)
    n = pl.program_id(0) * pl.num_programs(2) + i

    @pl.when(step == 0)
    def _():
        mixed[...] = jnp.zeros_like(mixed)
        top[...] = jnp.full_like(top, LOWEST)
        total[...] = jnp.zeros_like(total)

    def body(ids: Any) -> None:
        scores = _scores(how, query[0], key[0], ids, i, order[n * steps + step])
        highest = jnp.maximum(top[...], jnp.max(scores, axis=0, keepdims=True))
        weights = jnp.exp(scores - highest)
        shrink = jnp.exp(top[...] - highest)
        top[...] = highest
        total[...] = total[...] * shrink + jnp.sum(weights, axis=0, keepdims=True)
        mixed[...] = mixed[...] * shrink + product(value[0], weights.astype(value.dtype), 0, 0)

    _visit(full[n], live[n], step, body, (query_ids, key_ids))

    @pl.when(step == steps - 1)
    def _():
        divisor = jnp.where(total[...] > 0, total[...], 1.0)
        out[0] = (mixed[...] / divisor).T.astype(out.dtype)
        lse[0, 0] = top[...] + jnp.log(divisor)


def _score_gradients(
    scores: jax.Array, value: jax.Array, d_out: jax.Array, lse: jax.Array, di: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Attention weights and the derivative of the loss by the scores: two float32[keys, queries]."""
    weights = jnp.exp(scores - lse)
    return weights, weights * (product(value, d_out, 1, 1) - di)


def _query_gradient_kernel(
    order, full, live, query, key, value, query_ids, key_ids, d_out, lse, di, d_query, total, *, how: How, steps: int
):  # fmt: skip
    """Grid (B, H, query blocks, steps). total: float32[C, queries]."""
    i, step = pl.program_id(2), pl.program_id(3)
    n = pl.program_id(0) * pl.num_programs(2) + i

    @pl.when(step == 0)
    def _():
        total[...] = jnp.zeros_like(total)

    def body(ids: Any) -> None:
        scores = _scores(how, query[0], key[0], ids, i, order[n * steps + step])
        _, d_scores = _score_gradients(scores, value[0], d_out[0], lse[0, 0], di[0, 0])
        total[...] += product(key[0], d_scores.astype(key.dtype), 0, 0)

    _visit(full[n], live[n], step, body, (query_ids, key_ids))

    @pl.when(step == steps - 1)
    def _():
        d_query[0] = (total[...] * how.scale).T.astype(d_query.dtype)


def _key_gradient_kernel(
    order, full, live, query, key, value, query_ids, key_ids, d_out, lse, di, d_key, d_value, total_key, total_value,
    *, how: How, steps: int,
):  # fmt: skip
    """Grid (B, K, key blocks, H/K, steps). total_key, total_value: float32[keys, C]."""
    j, head, step = pl.program_id(2), pl.program_id(3), pl.program_id(4)
    n = pl.program_id(0) * pl.num_programs(2) + j

    @pl.when((head == 0) & (step == 0))
    def _():
        total_key[...] = jnp.zeros_like(total_key)
        total_value[...] = jnp.zeros_like(total_value)

    def body(ids: Any) -> None:
        scores = _scores(how, query[0], key[0], ids, order[n * steps + step], j)
        weights, d_scores = _score_gradients(scores, value[0], d_out[0], lse[0, 0], di[0, 0])
        total_value[...] += product(weights.astype(d_out.dtype), d_out[0], 1, 0)
        total_key[...] += product(d_scores.astype(query.dtype), query[0], 1, 0)

    _visit(full[n], live[n], step, body, (query_ids, key_ids))

    @pl.when((head == pl.num_programs(3) - 1) & (step == steps - 1))
    def _():
        d_key[0] = (total_key[...] * how.scale).astype(d_key.dtype)
        d_value[0] = total_value[...].astype(d_value.dtype)


# Kinds of blocks of the operands that the kernels read, in order; the forward pass takes the first five.
OPERANDS = ("query", "key", "key", "query ids", "key ids", "query", "row", "row")


def _call(
    how: How, part: str, kernel: Any, outputs: tuple[str, ...], scratch: list[Any], operands: Any, plan: Plan
) -> list[jax.Array]:
    """Run a kernel over a grid that belongs to the blocks of its first output, 'query' or 'key'.

    Args:
      part: a key of flash.PRODUCTS. outputs: kinds of blocks that the kernel writes. scratch: its accumulators.
      operands: query [B, T, H, C], key, value [B, T, K, C]; backward also d out [B, T, H, C], lse, di [B, H, 1, T].
    """
    query, key, value, *rest = operands
    (b, t, heads, width), kv_heads = query.shape, key.shape[2]
    group = heads // kv_heads
    visited = plan.of_queries if outputs[0] == "query" else plan.of_keys
    blocks, steps = visited.order.shape[1:]
    parallel = (b, heads, blocks) if outputs[0] == "query" else (b, kv_heads, blocks)
    arbitrary = (steps,) if outputs[0] == "query" else (group, steps)

    def place(row: Any, head: Any, own: Any, *rest: Any) -> tuple[Any, ...]:
        """Grid indices and scalars → row, query head, key/value head, query block, key block."""
        *member, step, order, _, _ = rest
        other = order[(row * blocks + own) * steps + step]
        if member:
            return row, head * group + member[0], head, other, own
        return row, head, lax.div(head, group), own, other

    def spec(shape: tuple[int, ...], index: Callable[..., tuple[Any, ...]]) -> pl.BlockSpec:
        return pl.BlockSpec(shape, lambda *where: index(*place(*where)))

    specs = {
        "query": spec((1, how.block_q, width), lambda b, h, k, i, j: (b, i, h)),
        "key": spec((1, how.block_k, width), lambda b, h, k, i, j: (b, j, k)),
        "query ids": spec((1, 8, how.block_q), lambda b, h, k, i, j: (b, 0, i)),
        "key ids": spec((1, 8, how.block_k), lambda b, h, k, i, j: (b, 0, j)),
        "row": spec((1, 1, 1, how.block_q), lambda b, h, k, i, j: (b, h, 0, i)),
    }
    shapes = {
        "query": jax.ShapeDtypeStruct((b, t, heads * width), query.dtype),
        "key": jax.ShapeDtypeStruct((b, t, kv_heads * width), key.dtype),
        "row": jax.ShapeDtypeStruct((b, heads, 1, t), jnp.float32),
    }
    read = [query, key, value, plan.ids, plan.ids, *rest]
    read = [x.reshape(b, t, -1) if kind in ("query", "key") else x for kind, x in zip(OPERANDS, read, strict=False)]

    def build(interpret: Any) -> Any:
        return pl.pallas_call(
            functools.partial(kernel, how=how, steps=steps),
            out_shape=[shapes[kind] for kind in outputs],
            grid_spec=pltpu.PrefetchScalarGridSpec(
                num_scalar_prefetch=len(visited),
                grid=parallel + arbitrary,
                in_specs=[specs[kind] for kind in OPERANDS[: len(read)]],
                out_specs=[specs[kind] for kind in outputs],
                scratch_shapes=scratch,
            ),
            compiler_params=pltpu.CompilerParams(  # a chip with two cores shares out what is parallel
                dimension_semantics=[pltpu.PARALLEL] * len(parallel) + [pltpu.ARBITRARY] * len(arbitrary)
            ),
            cost_estimate=cost(how, part, query, read),
            name=kernel_name(how, part),
            interpret=interpret,
        )

    written = choose("tpu", how.interpret, build, *(x.reshape(-1) for x in visited), *read)
    return [x.reshape(b, t, -1, width) if kind != "row" else x for kind, x in zip(outputs, written, strict=True)]


def _forward(how: How, query: jax.Array, key: jax.Array, value: jax.Array, plan: Plan) -> tuple[jax.Array, jax.Array]:
    row = pltpu.VMEM((1, how.block_q), jnp.float32)
    scratch = [pltpu.VMEM((query.shape[3], how.block_q), jnp.float32), row, row]
    out, lse = _call(how, "forward", _forward_kernel, ("query", "row"), scratch, (query, key, value), plan)
    return out, lse


def _backward(
    how: How, saved: Residuals, d_out: jax.Array, di: jax.Array, plan: Plan
) -> tuple[jax.Array, jax.Array, jax.Array]:
    operands, width = (saved.query, saved.key, saved.value, d_out, saved.lse, di), saved.query.shape[3]
    scratch = [pltpu.VMEM((width, how.block_q), jnp.float32)]
    (d_query,) = _call(how, "query_gradient", _query_gradient_kernel, ("query",), scratch, operands, plan)
    scratch = [pltpu.VMEM((how.block_k, width), jnp.float32)] * 2
    d_key, d_value = _call(how, "key_gradient", _key_gradient_kernel, ("key", "key"), scratch, operands, plan)
    return d_query, d_key, d_value


KERNELS = Kernels(block_sizes, _padded_width, _forward, _backward)
