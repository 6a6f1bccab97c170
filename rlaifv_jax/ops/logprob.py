"""Log-probabilities of answer tokens, without logits for the rest of the row and never all logits at once.

The hidden states are gathered where a target exists, before the vocabulary projection: of a LLaVA row of 1,600 tokens
some 300 have one. Projection and log-softmax then go through the vocabulary in blocks, forward with a running
log-sum-exp, backward by computing each block of logits again. So the largest array is [B, R, vocab_block]. Blocks of
the vocabulary, not of the targets: each gives its own columns of the head's gradient, and nothing of size [D, V] has
to be accumulated in float32.

On a mesh every device handles its own rows against its own part of the vocabulary. The head is gathered over its
width once, before the blocks; its gradient is summed over the devices once, after them.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from rlaifv_jax.parallel import mesh_axes

LANES = 128  # blocks are a multiple of a TPU register's width


def target_log_probs(
    hidden: jax.Array, head: jax.Array, sources: jax.Array, targets: jax.Array, *, vocab_block: int
) -> jax.Array:
    """log p(target | everything before it), only where a target exists.

    Args:
      hidden: [B, T, D] final hidden states.
      head: [D, V] output projection, in the dtype of `hidden`.
      sources: int32[B, R] row position whose hidden state predicts the target.
      targets: int32[B, R] token ids.
      vocab_block: the most columns of the head that are projected onto at once.

    Returns:
      float32[B, R]. Equals the gather of log_softmax(logits[:, :-1]) at labels[:, 1:] in
      muffin/eval/muffin_inference_logp.py (get_batch_logps) of RLAIF-V.
    """
    rows = jnp.take_along_axis(hidden, sources[..., None], axis=1)  # [B, R, D]
    return _log_probs(rows, head, targets, vocab_block)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _log_probs(rows: jax.Array, head: jax.Array, targets: jax.Array, vocab_block: int) -> jax.Array:
    return _forward(rows, head, targets, vocab_block)[0]


def _forward(rows: jax.Array, head: jax.Array, targets: jax.Array, vocab_block: int) -> tuple[jax.Array, Any]:
    cut = _cut(rows, head)
    part = cut.shard_map(partial(_forward_part, cut=cut, vocab_block=vocab_block), out=(cut.rows_spec,) * 2)
    chosen, normalizer = part(rows, head, targets)
    return chosen - normalizer, (rows, head, targets, normalizer)


def _backward(vocab_block: int, saved: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    rows, head, *rest = saved
    cut = _cut(rows, head)
    part = cut.shard_map(
        partial(_backward_part, cut=cut, vocab_block=vocab_block), out=(cut.rows_spec, cut.head_spec), extra=2
    )
    return *part(rows, head, *rest, gradient), None


_log_probs.defvjp(_forward, _backward)


class Cut(NamedTuple):
    """Mesh axes over which rows, width and vocabulary are cut (none without a mesh).

    repeats: how many devices along the width hold the same rows, because their number did not divide.
    """

    rows: tuple[str, ...]
    width: tuple[str, ...]
    vocab: tuple[str, ...]
    repeats: int

    @property
    def rows_spec(self) -> P:
        return P(self.rows)

    @property
    def head_spec(self) -> P:
        return P(self.width, self.vocab)

    def shard_map(self, part: Callable[..., Any], *, out: tuple[P, P], extra: int = 0) -> Callable[..., Any]:
        """`part` of (rows, head, targets, `extra` more arrays [B, R]), run by every device on its share."""
        if jax.sharding.get_abstract_mesh().empty:
            return part
        inputs = (self.rows_spec, self.head_spec, *(self.rows_spec,) * (1 + extra))
        return jax.shard_map(part, in_specs=inputs, out_specs=out, check_vma=False)


def _cut(rows: jax.Array, head: jax.Array) -> Cut:
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return Cut((), (), (), 1)
    row_axes = mesh_axes("batch", rows.shape[0], mesh)
    width, vocab = mesh_axes("embed", head.shape[0], mesh), mesh_axes("vocab", head.shape[1], mesh)
    repeats = math.prod(mesh.shape[axis] for axis in width if axis not in row_axes)
    return Cut(row_axes, width, vocab, repeats)


class _Head(NamedTuple):
    """A device's columns of the head, whole in width, in `blocks` blocks of `size`; the last may be part padding."""

    kernel: jax.Array  # [D, blocks · size]
    columns: int  # without padding
    size: int
    blocks: int

    def block(self, number: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(self.kernel, number * self.size, self.size, axis=1)  # [D, size]

    def logits(self, rows: jax.Array, number: jax.Array) -> jax.Array:
        """float32[B, R, size]; -inf in padding."""
        logits = jnp.einsum("brd,dv->brv", rows, self.block(number), preferred_element_type=jnp.float32)
        if self.columns == self.size * self.blocks:
            return logits
        column = number * self.size + jnp.arange(self.size)
        return jnp.where(column < self.columns, logits, -jnp.inf)


def _gathered(head: jax.Array, cut: Cut, vocab_block: int) -> _Head:
    if cut.width:
        head = jax.lax.all_gather(head, cut.width, axis=0, tiled=True)
    columns = head.shape[1]
    size = block_size(columns, vocab_block)
    count = -(-columns // size)
    return _Head(jnp.pad(head, ((0, 0), (0, size * count - columns))), columns, size, count)


def block_size(columns: int, most: int) -> int:
    """The largest multiple of 128 up to `most` that divides `columns`; if there is none worth it, `most` itself."""
    if columns <= most:
        return columns
    best = max((size for size in range(LANES, most + 1, LANES) if columns % size == 0), default=0)
    return best if 2 * best >= most else most


def _own(targets: jax.Array, cut: Cut, columns: int) -> jax.Array:
    """Targets as columns of this device's part of the vocabulary (outside of it: below 0 or too high)."""
    return targets - jax.lax.axis_index(cut.vocab) * columns if cut.vocab else targets


def _forward_part(
    rows: jax.Array, head: jax.Array, targets: jax.Array, *, cut: Cut, vocab_block: int
) -> tuple[jax.Array, jax.Array]:
    """(logit of the target, log of the sum of exponentials), both float32[B, R]."""
    table = _gathered(head, cut, vocab_block)
    targets = _own(targets, cut, table.columns)

    def step(carry: tuple[jax.Array, ...], number: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
        highest, total, chosen = carry
        logits = table.logits(rows, number)
        higher = jnp.maximum(highest, logits.max(-1))
        total = total * jnp.exp(highest - higher) + jnp.exp(logits - higher[..., None]).sum(-1)
        column = targets - number * table.size
        found = jnp.take_along_axis(logits, jnp.clip(column, 0, table.size - 1)[..., None], axis=-1)[..., 0]
        return (higher, total, chosen + jnp.where((column >= 0) & (column < table.size), found, 0)), None

    zeros = jnp.zeros(targets.shape, jnp.float32)
    (highest, total, chosen), _ = _each(step, (zeros - jnp.inf, zeros, zeros), table.blocks)
    if cut.vocab:
        everywhere = jax.lax.pmax(highest, cut.vocab)
        total = jax.lax.psum(total * jnp.exp(highest - everywhere), cut.vocab)
        highest, chosen = everywhere, jax.lax.psum(chosen, cut.vocab)
    return chosen, highest + jnp.log(total)


def _backward_part(
    rows: jax.Array,
    head: jax.Array,
    targets: jax.Array,
    normalizer: jax.Array,
    gradient: jax.Array,
    *,
    cut: Cut,
    vocab_block: int,
) -> tuple[jax.Array, jax.Array]:
    """Gradients of rows [B, R, D] and of this device's part of the head, in their dtypes."""
    table = _gathered(head, cut, vocab_block)
    targets = _own(targets, cut, table.columns)

    def step(carry: tuple[jax.Array, ...], number: jax.Array) -> tuple[tuple[jax.Array, ...], None]:
        to_rows, to_head = carry
        column = number * table.size + jnp.arange(table.size)
        hit = (column == targets[..., None]).astype(jnp.float32)  # [B, R, size]
        softmax = jnp.exp(table.logits(rows, number) - normalizer[..., None])
        to_logits = ((hit - softmax) * gradient[..., None]).astype(rows.dtype)
        to_rows += jnp.einsum("brv,dv->brd", to_logits, table.block(number), preferred_element_type=jnp.float32)
        to_block = jnp.einsum("brd,brv->dv", rows, to_logits, preferred_element_type=jnp.float32)
        return (to_rows, _write(to_head, to_block.astype(head.dtype), number * table.size)), None

    start = jnp.zeros(rows.shape, jnp.float32), jnp.zeros_like(table.kernel)
    (to_rows, to_head), _ = _each(step, start, table.blocks)
    to_head = to_head[:, : table.columns]
    if cut.vocab:
        to_rows = jax.lax.psum(to_rows, cut.vocab)
    if cut.width:
        to_head = jax.lax.psum_scatter(to_head / cut.repeats, cut.width, scatter_dimension=0, tiled=True)
    if others := tuple(axis for axis in cut.rows if axis not in cut.width):
        to_head = jax.lax.psum(to_head, others)
    return to_rows.astype(rows.dtype), to_head.astype(head.dtype)


def _write(array: jax.Array, block: jax.Array, start: jax.Array) -> jax.Array:
    return jax.lax.dynamic_update_slice_in_dim(array, block, start, axis=1)


def _each(step: Callable[..., Any], carry: Any, count: int) -> Any:
    """`step` for blocks 0…count-1; a single one needs no loop."""
    return step(carry, jnp.int32(0)) if count == 1 else jax.lax.scan(step, carry, jnp.arange(count))
