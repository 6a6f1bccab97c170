"""Slices by name: what gcloud, GKE and the runtime call them."""

import math

import pytest

from launch.cloud.accelerators import GENERATIONS, find
from launch.topologies import check
from rlaifv_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "kind", "runtime", "topology", "chips", "hosts"),
    [
        ("v4-8", "v4-8", "tpu-ubuntu2204-base", "2x2x1", 4, 1),
        ("v4-32", "v4-32", "tpu-ubuntu2204-base", "2x2x4", 16, 4),
        ("v5e-1", "v5litepod-1", "v2-alpha-tpuv5-lite", "1x1", 1, 1),
        ("v5e-8", "v5litepod-8", "v2-alpha-tpuv5-lite", "2x4", 8, 1),
        ("v5litepod-16", "v5litepod-16", "v2-alpha-tpuv5-lite", "4x4", 16, 4),
        ("v5p-8", "v5p-8", "v2-alpha-tpuv5", "2x2x1", 4, 1),
        ("v5p-32", "v5p-32", "v2-alpha-tpuv5", "2x2x4", 16, 4),
        ("v6e-8", "v6e-8", "v2-alpha-tpuv6e", "2x4", 8, 1),
        ("v6e-64", "v6e-64", "v2-alpha-tpuv6e", "8x8", 64, 16),
    ],
)
def test_a_slice(name, kind, runtime, topology, chips, hosts):
    found = find(name)
    assert (found.type, found.runtime, found.topology) == (kind, runtime, topology)
    assert (found.chips, found.hosts, found.chips_of_a_host * found.hosts) == (chips, hosts, chips)


@pytest.mark.parametrize("kind", GENERATIONS)
def test_topologies_have_their_chips_and_are_ones_that_compile_knows(kind):
    for chips, topology in GENERATIONS[kind].topologies.items():
        assert math.prod(map(int, topology.split("x"))) == chips
        assert check(f"{kind}:{topology}") == kind


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5e-12", "there is no v5e-12; there are v5e-1, v5e-4, v5e-8, v5e-16"),
        ("v4-9", "there is no v4-9; there are v4-8, v4-16"),
        ("v3-8", "'v3-8' is no slice"),
        ("v5e", "'v5e' is no slice"),
        ("v5e-16; rm -rf /", "is no slice"),
    ],
)
def test_what_is_no_slice(name, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        find(name)
