"""The TPU kernels: their blocks, no races, and compiled by the real compiler for four chips.

test_backends.py runs them in interpret mode.
"""

import importlib.util
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax._src.pallas.mosaic.interpret import interpret_pallas_call
from jax.experimental import topologies
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AxisType, Mesh, NamedSharding

from rlaifv_jax.ops.attention import attention
from rlaifv_jax.ops.flash_tpu import KERNELS, block_sizes
from rlaifv_jax.ops.layout import Layout
from rlaifv_jax.parallel import AXES, spec
from tests.ops.layouts import assert_all_close, by, by_kernels, lay_out, operands

os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU whose name could be asked for
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # several test processes compile at a time

TOPOLOGIES = {
    "v4": {"topology_name": "v4:2x2x1", "chip_config_name": "megacore"},
    "v5e": {"topology_name": "v5e:2x2"},
    "v5p": {"topology_name": "v5p:2x2x1"},
    "v6e": {"topology_name": "v6e:2x2"},
}


def test_unequal_blocks():
    layout = lay_out([[(0, 90, (60, 130)), (0, 50, (40,))]], 400)
    arrays = operands(1, 400, 2, 1, 64)
    found = by_kernels(KERNELS, None, (128, 256))(*arrays, layout)
    assert_all_close(found, by("dense", None)(*arrays, layout), 1e-5)


def test_no_races_on_two_cores():
    """Pallas' TPU interpreter runs the parallel axes of the grid on two cores and watches every access."""
    parameters = pltpu.InterpretParams(detect_races=True, num_cores_or_threads=2)
    layout = lay_out([[(0, 100, (60, 80))]], 256)
    arrays = operands(1, 256, 2, 1, 128)
    found = by_kernels(KERNELS, None, (128, 128), parameters)(*arrays, layout)
    assert_all_close(found, by("dense", None)(*arrays, layout), 1e-5)
    assert interpret_pallas_call.races.races_found is False


DECODER, TOWER = (1664, 32, 32, 128, jnp.bfloat16, None), (577, 16, 16, 64, jnp.bfloat16, None)
GROUPED, FLOAT32 = (1664, 32, 8, 128, jnp.bfloat16, 1024), (1664, 4, 4, 80, jnp.float32, None)
# A v4 has the least room for blocks, and grouped heads with a window are the most that a kernel has to do.
ALWAYS = [("v4", DECODER), ("v4", TOWER), ("v5e", GROUPED), ("v5p", GROUPED), ("v6e", GROUPED)]
ALL = [(chip, case) for chip in TOPOLOGIES for case in (DECODER, TOWER, GROUPED, FLOAT32)]


@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")
@pytest.mark.parametrize(
    ("chip", "case"),
    [*ALWAYS, *(pytest.param(*each, marks=pytest.mark.slow) for each in ALL if each not in ALWAYS)],
)
def test_compiles_with_shipped_blocks(chip, case):
    """Value and gradients inside shard_map, for a mesh of four chips that is only described."""
    tokens, heads, kv_heads, width, dtype, window = case
    devices = np.array(topologies.get_topology_desc(platform="tpu", **TOPOLOGIES[chip]).devices)
    mesh = Mesh(devices.reshape(1, -1, 2), AXES, axis_types=(AxisType.Auto,) * 3)

    def array(shape, dtype):
        axes = ("batch", None, "heads", None)[: len(shape)]
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec(axes, shape, mesh)))

    qkv = [array((2, tokens, n, width), dtype) for n in (heads, kv_heads, kv_heads)]
    layout = None if case == TOWER else Layout(*[array((2, tokens), jnp.int32)] * 3)

    def loss(qkv, layout):
        out = attention(*qkv, layout=layout, scale=width**-0.5, window=window, backend="flash_tpu")
        return jnp.sum(out.astype(jnp.float32) ** 2)

    with jax.set_mesh(mesh):
        compiled = jax.jit(jax.grad(loss)).lower(qkv, layout).compile()
    assert compiled.as_text().count('custom_call_target="tpu_custom_call"') == 3


def test_block_sizes():
    """Large blocks, unless that would be padding; smaller ones where a number takes more room."""
    expected = {577: 640, 1024: 512, 1664: 640, 2048: 512, 100: 128}
    assert {tokens: block_sizes(tokens, 128, jnp.bfloat16)[0] for tokens in expected} == expected
    assert block_sizes(2048, 128, jnp.float32) == (384, 384)
