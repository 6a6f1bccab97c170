"""Flash attention for GPUs in Pallas' Triton dialect.

One program owns a block of queries (forward pass, gradient of queries) or of keys (gradients of keys and values) and
loops over the blocks of the other side in the order of layout.Visits: first those that need no mask, then those that
do. Dead blocks are not in the loop at all. Scores are held queries before keys.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from rlaifv_jax.ops.flash import HIDDEN, LOWEST, How, Kernels, Plan, Residuals, choose, cost, kernel_name, product
from rlaifv_jax.ops.layout import Layout, Visits, sees


def block_sizes(tokens: int, width: int, dtype: Any) -> tuple[int, int]:
    """Tokens in a block of queries and in a block of keys, powers of two as Triton wants.

    64 in bfloat16 and 32 in float32 or for wide heads keep the operands of two stages within the 99 KiB of shared
    memory that every GPU since Ampere gives a block of threads.
    """
    block = 32 if dtype == jnp.float32 or width > 128 else 64
    return block, block


def _padded_width(width: int) -> int:
    return max(16, pl.next_power_of_2(width))


def _side(ids: Any, block: Any, tokens: int, axis: int) -> tuple[Layout, jax.Array]:
    """Ids and places in the row of a block of queries or keys, int32 and broadcast along the other axis of scores."""
    here = pl.ds(block * tokens, tokens)
    segments, branches, positions = (jnp.expand_dims(ids[n, here], axis) for n in range(3))
    return Layout(segments, branches, positions), block * tokens + jnp.expand_dims(jnp.arange(tokens), axis)


def _masked(how: How, scores: jax.Array, ids: Any, i: Any, j: Any, queries_axis: int) -> jax.Array:
    """Scores of query block i and key block j with what may not be seen hidden."""
    query, query_rows = _side(ids, i, how.block_q, 1 - queries_axis)
    key, key_rows = _side(ids, j, how.block_k, queries_axis)
    mask = sees(query, key, query_rows, key_rows, window=how.window, causal=how.causal)
    return jnp.where(mask, scores, HIDDEN)


def _walk(visited: tuple[Any, Any, Any], n: Any, body: Callable[[Any, bool, Any], Any], carry: Any) -> Any:
    """Fold `body(block, masked, carry)` over the blocks that block n visits."""
    order, full, live = visited
    for masked, first, last in ((False, 0, full[n]), (True, full[n], live[n])):
        carry = lax.fori_loop(first, last, lambda m, c, masked=masked: body(order[n, m], masked, c), carry)
    return carry


def _forward_kernel(order, full, live, query, key, value, ids, out, lse, *, how: How):
    """Grid (B, H, query blocks). query, out: [queries, C]; key, value: [T, C]; ids: [8, T]; lse: [queries]."""
    i = pl.program_id(2)
    q = query[...]

    def body(j: Any, masked: bool, carry: Any) -> Any:
        mixed, top, total = carry
        here = pl.ds(j * how.block_k, how.block_k)
        scores = product(q, key[here, :], 1, 1) * how.scale  # [queries, keys]
        if masked:
            scores = _masked(how, scores, ids, i, j, 0)
        highest = jnp.maximum(top, jnp.max(scores, axis=1))
        weights = jnp.exp(scores - highest[:, None])
        shrink = jnp.exp(top - highest)
        mixed = mixed * shrink[:, None] + product(weights.astype(value.dtype), value[here, :], 1, 0)
        return mixed, highest, total * shrink + jnp.sum(weights, axis=1)

    start = jnp.zeros(q.shape, jnp.float32), jnp.full(how.block_q, LOWEST), jnp.zeros(how.block_q, jnp.float32)
    mixed, top, total = _walk((order, full, live), i, body, start)
    divisor = jnp.where(total > 0, total, 1.0)
    out[...] = (mixed / divisor[:, None]).astype(out.dtype)
    lse[...] = top + jnp.log(divisor)


def _query_gradient_kernel(order, full, live, query, key, value, ids, d_out, lse, di, d_query, *, how: How):
    """Grid (B, H, query blocks). query, d_out: [queries, C]; key, value: [T, C]; lse, di: [queries]."""
    i = pl.program_id(2)
    q, d, row, shift = query[...], d_out[...], lse[...], di[...]

    def body(j: Any, masked: bool, total: Any) -> Any:
        k, v = (x[pl.ds(j * how.block_k, how.block_k), :] for x in (key, value))
        scores = product(q, k, 1, 1) * how.scale  # [queries, keys]
        if masked:
            scores = _masked(how, scores, ids, i, j, 0)
        d_scores = jnp.exp(scores - row[:, None]) * (product(d, v, 1, 1) - shift[:, None])
        return total + product(d_scores.astype(k.dtype), k, 1, 0)

    total = _walk((order, full, live), i, body, jnp.zeros(q.shape, jnp.float32))
    d_query[...] = (total * how.scale).astype(d_query.dtype)


def _key_gradient_kernel(order, full, live, query, key, value, ids, d_out, lse, di, d_key, d_value, *, how: How):
    """Grid (B, K, key blocks). query, d_out: [T, H/K, C]; key, value: [keys, C]; lse, di: [H/K, T]."""
    j = pl.program_id(2)
    k, v = key[...], value[...]

    def body(head: Any, i: Any, masked: bool, carry: Any) -> Any:
        total_key, total_value = carry
        here = pl.ds(i * how.block_q, how.block_q)
        q, d = query[here, head, :], d_out[here, head, :]
        scores = product(k, q, 1, 1) * how.scale  # [keys, queries]
        if masked:
            scores = _masked(how, scores, ids, i, j, 1)
        weights = jnp.exp(scores - lse[head, here][None])
        d_scores = weights * (product(v, d, 1, 1) - di[head, here][None])
        total_value += product(weights.astype(d.dtype), d, 1, 0)
        return total_key + product(d_scores.astype(q.dtype), q, 1, 0), total_value

    def group(head: Any, carry: Any) -> Any:
        return _walk((order, full, live), j, functools.partial(body, head), carry)

    start = jnp.zeros(k.shape, jnp.float32), jnp.zeros(k.shape, jnp.float32)
    total_key, total_value = lax.fori_loop(0, query.shape[1], group, start)
    d_key[...] = (total_key * how.scale).astype(d_key.dtype)
    d_value[...] = total_value.astype(d_value.dtype)


def _call(
    how: How, part: str, kernel: Any, visited: Visits, operands: tuple[jax.Array, ...], in_specs: Any, **specs: Any
) -> Any:
    """pallas_call of a kernel whose grid starts with the rows and that reads the whole row of `visited`.

    part: a key of flash.PRODUCTS. operands: queries come first.
    """

    def row(x: jax.Array) -> pl.BlockSpec:
        return pl.BlockSpec((None, *x.shape[1:]), lambda b, h, n: (b,) + (0,) * (x.ndim - 1))

    def build(interpret: Any) -> Any:
        return pl.pallas_call(
            functools.partial(kernel, how=how),
            in_specs=[*map(row, visited), *in_specs],
            compiler_params=plgpu.CompilerParams(num_warps=4 if operands[0].shape[3] <= 64 else 8, num_stages=2),
            cost_estimate=cost(how, part, operands[0], operands),
            name=kernel_name(how, part),
            interpret=interpret,
            **specs,
        )

    return choose("cuda", how.interpret, build, *visited, *operands)


class _Specs(NamedTuple):
    """Blocks of a kernel that owns queries."""

    query: pl.BlockSpec
    key: pl.BlockSpec  # whole rows, also of values
    ids: pl.BlockSpec
    row: pl.BlockSpec  # a number for every query


def _specs(how: How, query: jax.Array, key: jax.Array) -> _Specs:
    _, t, heads, width = query.shape
    group = heads // key.shape[2]
    return _Specs(
        query=pl.BlockSpec((None, how.block_q, None, width), lambda b, h, i: (b, i, h, 0)),
        key=pl.BlockSpec((None, t, None, width), lambda b, h, i: (b, 0, lax.div(h, group), 0)),
        ids=pl.BlockSpec((None, 8, t), lambda b, h, i: (b, 0, 0)),
        row=pl.BlockSpec((None, None, None, how.block_q), lambda b, h, i: (b, h, 0, i)),
    )


def _shape(x: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


def _forward(how: How, query: jax.Array, key: jax.Array, value: jax.Array, plan: Plan) -> tuple[jax.Array, jax.Array]:
    b, t, heads, _ = query.shape
    specs = _specs(how, query, key)
    out, lse = _call(
        how,
        "forward",
        _forward_kernel,
        plan.of_queries,
        (query, key, value, plan.ids),
        [specs.query, specs.key, specs.key, specs.ids],
        grid=(b, heads, t // how.block_q),
        out_specs=[specs.query, specs.row],
        out_shape=[_shape(query), jax.ShapeDtypeStruct((b, heads, 1, t), jnp.float32)],
    )
    return out, lse


def _backward(
    how: How, saved: Residuals, d_out: jax.Array, di: jax.Array, plan: Plan
) -> tuple[jax.Array, jax.Array, jax.Array]:
    query, key, value, _, lse = saved
    b, t, heads, width = query.shape
    kv_heads = key.shape[2]
    operands = (query, key, value, plan.ids, d_out, lse, di)
    specs = _specs(how, query, key)
    d_query = _call(
        how,
        "query_gradient",
        _query_gradient_kernel,
        plan.of_queries,
        operands,
        [specs.query, specs.key, specs.key, specs.ids, specs.query, specs.row, specs.row],
        grid=(b, heads, t // how.block_q),
        out_specs=specs.query,
        out_shape=_shape(query),
    )
    group = heads // kv_heads
    queries = pl.BlockSpec((None, t, group, width), lambda b, k, j: (b, 0, k, 0))
    keys = pl.BlockSpec((None, how.block_k, None, width), lambda b, k, j: (b, j, k, 0))
    rows = pl.BlockSpec((None, group, None, t), lambda b, k, j: (b, k, 0, 0))
    d_key, d_value = _call(
        how,
        "key_gradient",
        _key_gradient_kernel,
        plan.of_keys,
        operands,
        [queries, keys, keys, specs.ids, queries, rows, rows],
        grid=(b, kv_heads, t // how.block_k),
        out_specs=[keys, keys],
        out_shape=[_shape(key), _shape(value)],
    )
    return d_query, d_key, d_value


KERNELS = Kernels(block_sizes, _padded_width, _forward, _backward)
