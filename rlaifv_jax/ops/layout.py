"""Who may look at whom in a row, token by token and block by block.

Rows hold shared prefixes and branches (see rlaifv_jax.data.batch). Three integer vectors say everything; nobody
has to build a mask. The rule stands once, in `sees`; the dense reference and the kernels all call it.

For the kernels a row is cut into blocks. `block_states` tells from the least and greatest ids of each block
which pairs of blocks are dead, partly visible or fully visible, and `visits` turns that into the order in which a
kernel walks over them.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

DEAD, PARTIAL, FULL = 0, 1, 2

_NEVER = np.iinfo(np.int32).max  # least value of a block without any token of the kind asked for


class Layout(NamedTuple):
    """Where every token of a row belongs: int32[B, T] each.

    segments: which prefix with its branches, from 1; 0 is padding. branches: 0 prefix, from 1 its branches.
    positions: rotary positions; a branch restarts where its prefix ended.
    """

    segments: Any
    branches: Any
    positions: Any


class Visits(NamedTuple):
    """In which order block n of one side visits the blocks of the other side.

    order: int32[B, N, M] first the fully visible blocks, then the partly visible ones; after them the last of
    those is repeated, so that a kernel that steps on fetches nothing. full, live: int32[B, N], the number of fully
    visible blocks and of all that are not dead.
    """

    order: jax.Array
    full: jax.Array
    live: jax.Array


class _Range(NamedTuple):
    """Least and greatest value of some tokens of every block, [B, N]; low > high where it has none."""

    low: jax.Array
    high: jax.Array


def sees(query: Layout, key: Layout, query_rows: Any, key_rows: Any, *, window: int | None, causal: bool) -> jax.Array:
    """The rule, for ids of queries and of keys that broadcast against each other.

    Query i attends to key j ⇔ segment[i] = segment[j] > 0
                             ∧ j ≤ i                                          (rows; where causal)
                             ∧ (branch[j] = 0 ∨ branch[j] = branch[i])        (where causal)
                             ∧ position[i] - position[j] < window             (arXiv 2310.06825; where one is set)

    Args:
      query, key: ids; query_rows, key_rows: places in the row.
      window: how many positions a query sees, itself included; None sees all.
      causal: False for towers, which know neither order nor branches.

    Returns:
      bool, of the broadcast shape.
    """
    mask = jnp.where(key.segments > 0, key.segments, -1) == query.segments
    if causal:
        mask &= key_rows <= query_rows
        mask &= (key.branches == 0) | (key.branches == query.branches)
    if window is not None:
        mask &= query.positions - key.positions < window
    return mask


def allowed(layout: Layout, window: int | None) -> jax.Array:
    """`sees` for all pairs of a row: bool[B, T, T], queries before keys."""
    rows = jnp.arange(layout.segments.shape[-1])
    query = jax.tree.map(lambda ids: ids[:, :, None], layout)
    key = jax.tree.map(lambda ids: ids[:, None, :], layout)
    return sees(query, key, rows[:, None], rows[None, :], window=window, causal=True)


def _range(values: jax.Array, wanted: jax.Array) -> _Range:
    """Over the last axis: [B, N, block] → [B, N]."""
    return _Range(jnp.where(wanted, values, _NEVER).min(-1), jnp.where(wanted, values, -1).max(-1))


def _meet(query: _Range, key: _Range) -> jax.Array:
    """Do the ranges of two blocks share a value? bool[B, N, M]"""
    return (key.low[:, None] <= query.high[..., None]) & (query.low[..., None] <= key.high[:, None])


def _one(query: _Range, key: _Range) -> jax.Array:
    """Do both blocks hold one value only, the same? bool[B, N, M]"""
    low = jnp.minimum(query.low[..., None], key.low[:, None])
    return low == jnp.maximum(query.high[..., None], key.high[:, None])


@functools.partial(jax.jit, static_argnames=("block_q", "block_k", "window", "causal"))
def block_states(layout: Layout, block_q: int, block_k: int, *, window: int | None, causal: bool) -> jax.Array:
    """DEAD, PARTIAL or FULL for every pair of a query block and a key block: int32[B, T/block_q, T/block_k].

    DEAD: no pair of tokens is allowed. FULL: every pair is. Both claims are safe for any ids, since only ranges are
    compared. For rows as rlaifv_jax.data.batch lays them out, segments and branches ascending, no live block is one
    in vain, but for a window across segments. Costs O(B·(T + blocks²)).

    Args:
      layout: T a multiple of both blocks.
      block_q, block_k: tokens in a block.
      window, causal: as in `sees`.
    """
    segments = jnp.asarray(layout.segments)
    branches = jnp.asarray(layout.branches)
    # Answers are told apart by (segment, branch), as one ascending number.
    owners = segments * (jnp.max(branches) + 1) + branches

    def cut(values: jax.Array, block: int) -> jax.Array:
        return values.reshape(values.shape[0], -1, block)

    def both(values: jax.Array, wanted: jax.Array) -> tuple[_Range, _Range]:
        query, key = (_range(cut(values, block), cut(wanted, block)) for block in (block_q, block_k))
        return query, key

    real = segments > 0
    whole = cut(real, block_q).all(-1)[..., None] & cut(real, block_k).all(-1)[:, None]
    segment_q, segment_k = both(segments, real)
    if causal:
        first_q, first_k = jnp.arange(whole.shape[1])[:, None] * block_q, jnp.arange(whole.shape[2]) * block_k
        _, prefix_k = both(segments, real & (branches == 0))
        _, answer_k = both(owners, real & (branches > 0))
        owner_q, owner_k = both(owners, real)
        live = (_meet(segment_q, prefix_k) | _meet(owner_q, owner_k)) & (first_k < first_q + block_q)
        visible = (answer_k.high < 0)[:, None] | _one(owner_q, answer_k)
        full = _one(segment_q, segment_k) & visible & (first_k + block_k <= first_q + 1)
    else:
        live, full = _meet(segment_q, segment_k), _one(segment_q, segment_k)
    if window is not None:
        position_q, position_k = both(jnp.asarray(layout.positions), real)
        live &= position_q.low[..., None] - position_k.high[:, None] < window
        full &= position_q.high[..., None] - position_k.low[:, None] < window
    return jnp.where(live, jnp.where(full & whole, FULL, PARTIAL), DEAD).astype(jnp.int32)


def visits(states: jax.Array) -> Visits:
    """int32[B, N, M] states → the order of visits of every one of the N blocks."""
    full, live = (states == FULL).sum(-1), (states != DEAD).sum(-1)
    blocks = jnp.arange(states.shape[-1])
    ahead, behind = states[..., None, :], states[..., :, None]
    place = ((ahead > behind) | ((ahead == behind) & (blocks < blocks[:, None]))).sum(-1)  # [B, N, M] of each block
    step = jnp.minimum(blocks, jnp.maximum(live[..., None] - 1, 0))  # [B, N, M]
    order = jnp.where(place[..., None, :] == step[..., None], blocks, 0).sum(-1)
    return Visits(*(jnp.asarray(x, jnp.int32) for x in (order, full, live)))
