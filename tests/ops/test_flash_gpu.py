"""The GPU kernels, lowered to Triton without a GPU; test_backends.py runs them in interpret mode."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AbstractDevice, AbstractMesh

from rlaifv_jax.ops.attention import attention
from rlaifv_jax.ops.layout import Layout


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
