"""The GPU kernels: interpreted here against the dense reference, and lowered to Triton without a GPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AbstractDevice, AbstractMesh

from rlaifv_jax.ops.attention import attention
from rlaifv_jax.ops.flash_gpu import KERNELS
from rlaifv_jax.ops.layout import Layout
from tests.ops.layouts import (
    SHAPES,
    assert_all_close,
    assert_padding_is_zero,
    by,
    by_kernels,
    lay_out,
    layouts,
    operands,
)


@pytest.mark.parametrize(("width", "heads", "kv_heads", "tokens", "window"), SHAPES)
@settings(max_examples=4, deadline=None)
@given(st.data())
def test_values_and_gradients_equal_dense(width, heads, kv_heads, tokens, window, data):
    layout = data.draw(layouts(2, tokens))
    arrays = operands(2, tokens, heads, kv_heads, width)
    found = by_kernels(KERNELS, window, (64, 32))(*arrays, layout)
    assert_all_close(found, by("dense", window)(*arrays, layout), 1e-5)
    assert_padding_is_zero(found, layout)


def test_tower():
    arrays = operands(1, 145, 2, 2, 72)
    assert_all_close(by("flash_gpu", None)(*arrays, None), by("dense", None)(*arrays, None), 1e-5)


def test_bfloat16():
    """As close to the float32 result as bfloat16 operands, weights and results allow."""
    layout = lay_out([[(0, 90, (60, 80)), (0, 20, (40,))]], 300)
    arrays = operands(1, 300, 4, 2, 128, jnp.bfloat16)
    found = by("flash_gpu", None)(*arrays, layout)
    assert {x.dtype for x in found} == {jnp.dtype(jnp.bfloat16)}
    expected = by("dense", None)(*(x.astype(jnp.float32) for x in arrays), layout)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.astype(jnp.float32), b, atol=0.01 * np.abs(b).max(), rtol=0)


@pytest.mark.parametrize(
    ("width", "dtype", "window"),
    [
        (64, jnp.bfloat16, None),
        (72, jnp.float32, None),
        (80, jnp.bfloat16, 100),
        (96, jnp.float32, 100),
        (112, jnp.bfloat16, None),
        (128, jnp.bfloat16, 100),
        (128, jnp.float32, None),
    ],
)
def test_lowers_for_cuda(width, dtype, window):
    """What Triton cannot express, such as a block that is no power of two, is refused here."""
    query, key = (jax.ShapeDtypeStruct((2, 577, heads, width), dtype) for heads in (4, 2))
    layout = None if width == 72 else Layout(*[jax.ShapeDtypeStruct((2, 577), jnp.int32)] * 3)

    def loss(qkv, layout):
        out = attention(*qkv, layout=layout, scale=width**-0.5, window=window, backend="flash_gpu")
        return jnp.sum(out.astype(jnp.float32) ** 2)

    device = AbstractDevice("NVIDIA A100", None, "gpu")  # newer versions of JAX lower for one kind of GPU
    with jax.sharding.use_abstract_mesh(AbstractMesh((), (), abstract_device=device)):
        lowered = jax.jit(jax.grad(loss)).trace([query, key, key], layout).lower(lowering_platforms=("cuda",))
    assert lowered.as_text().count("@__gpu$xla.gpu.triton") == 3
