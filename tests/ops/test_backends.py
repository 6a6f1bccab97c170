"""Every way to compute attention equals the dense reference: values, gradients, and zeros for padding."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaifv_jax.ops import flash_gpu, flash_tpu
from tests.ops.layouts import assert_all_close, assert_padding_is_zero, by, by_kernels, lay_out, layouts, operands

# Blocks so small that rows of a test have several.
SMALL_BLOCKS = {"flash_tpu": (flash_tpu.KERNELS, (128, 128)), "flash_gpu": (flash_gpu.KERNELS, (64, 32))}
BACKENDS = ("blocked", *SMALL_BLOCKS)
# Head width, query heads, key/value heads, tokens, window.
SHAPES = [(64, 2, 2, 256, None), (72, 2, 1, 200, None), (80, 4, 2, 130, 9), (128, 3, 1, 300, 40)]


def in_small_blocks(backend, window):
    if backend not in SMALL_BLOCKS:
        return by(backend, window)
    kernels, blocks = SMALL_BLOCKS[backend]
    return by_kernels(kernels, window, blocks)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("width", "heads", "kv_heads", "tokens", "window"), SHAPES)
@settings(max_examples=4, deadline=None)
@given(st.data())
def test_values_and_gradients(backend, width, heads, kv_heads, tokens, window, data):
    layout = data.draw(layouts(2, tokens))
    arrays = operands(2, tokens, heads, kv_heads, width)
    found = in_small_blocks(backend, window)(*arrays, layout)
    assert_all_close(found, by("dense", window)(*arrays, layout), 1e-5)
    assert_padding_is_zero(found, layout)


@pytest.mark.parametrize(
    ("backend", "tokens", "width"), [("blocked", 145, 72), ("flash_tpu", 577, 64), ("flash_gpu", 145, 72)]
)
def test_tower(backend, tokens, width):
    arrays = operands(1, tokens, 2, 2, width)
    assert_all_close(by(backend, None)(*arrays, None), by("dense", None)(*arrays, None), 1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16(backend):
    """As close to the float32 result as bfloat16 operands, weights and results allow."""
    layout = lay_out([[(0, 90, (60, 80)), (0, 20, (40,))]], 300)
    arrays = operands(1, 300, 4, 2, 128, jnp.bfloat16)
    attend = by if backend == "flash_gpu" else in_small_blocks  # whose own blocks are small enough
    found = attend(backend, None)(*arrays, layout)
    assert {x.dtype for x in found} == {jnp.dtype(jnp.bfloat16)}
    expected = by("dense", None)(*(x.astype(jnp.float32) for x in arrays), layout)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.01 * np.abs(b).max(), rtol=0)
