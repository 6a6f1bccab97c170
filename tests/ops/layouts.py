"""Layouts to test attention with, and the comparison that every backend has to stand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from rlaifv_jax.ops.attention import attention
from rlaifv_jax.ops.flash import flash
from rlaifv_jax.ops.layout import Layout


def lay_out(rows, tokens):
    """Rows of (padding before, prefix, answers) → Layout of int32[B, tokens]; what does not fit is cut off."""
    ids = np.zeros((3, len(rows), tokens), np.int32)
    for row, segments in enumerate(rows):
        at = 0
        for number, (gap, prefix, answers) in enumerate(segments, 1):
            at += gap
            for branch, length in enumerate((prefix, *answers)):
                start = prefix if branch else 0
                piece = np.stack([np.full(length, number), np.full(length, branch), start + np.arange(length)])
                ids[:, row, at : at + length] = piece[:, : max(0, tokens - at)]
                at += length
    return Layout(*ids)


@st.composite
def layouts(draw, rows, tokens):
    """Rows as batches have them: some empty, several segments, 0 to 3 answers, padding between and after."""
    length = st.integers(0, tokens // 2)
    gap = st.sampled_from([0, 0, 0, 1, tokens // 8])
    segment = st.tuples(gap, length, st.lists(length, max_size=3))
    return lay_out([draw(st.lists(segment, max_size=4)) for _ in range(rows)], tokens)


def operands(batch, tokens, heads, kv_heads, width, dtype=np.float32):
    """Query, key, value and a cotangent of the result, all of order 1."""
    rng = np.random.default_rng(0)
    counts = (heads, kv_heads, kv_heads, heads)
    return [jnp.array(rng.normal(size=(batch, tokens, n, width)), dtype) for n in counts]


def with_gradients(attend):
    """attend(query, key, value, layout) → jitted (operands, layout) → result and three gradients."""

    def run(query, key, value, cotangent, layout):
        out, pull = jax.vjp(lambda q, k, v: attend(q, k, v, layout), query, key, value)
        return out, *pull(cotangent)

    return jax.jit(run)


@functools.cache
def by_kernels(kernels, window, blocks, interpret=None):
    def attend(query, key, value, layout):
        scale, options = query.shape[-1] ** -0.5, {"interpret": interpret, "blocks": blocks}
        return flash(kernels, query, key, value, layout=layout, scale=scale, window=window, **options)

    return with_gradients(attend)


@functools.cache
def by(backend, window):
    def attend(query, key, value, layout):
        scale = query.shape[-1] ** -0.5
        return attention(query, key, value, layout=layout, scale=scale, window=window, backend=backend)

    return with_gradients(attend)


def assert_all_close(found, expected, atol):
    for name, a, b in zip(("out", "d query", "d key", "d value"), found, expected, strict=True):
        np.testing.assert_allclose(
            np.asarray(a, np.float32), np.asarray(b, np.float32), atol=atol, rtol=0, err_msg=name
        )


def assert_padding_is_zero(found, layout):
    for array in found:
        assert not np.any(np.asarray(array)[layout.segments == 0])
