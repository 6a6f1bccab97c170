"""Transfers found in short texts in the forms that libtpu writes, and in a step compiled for v5e on the spot."""

import importlib.util
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from launch import collectives, hlo, traffic
from launch.loops import trip_counts

WORK = """\
%product (l: bf16[8,8], r: bf16[8,8]) -> bf16[8,8] {
  %l = bf16[8,8]{1,0} parameter(0)
  %r = bf16[8,8]{1,0} parameter(1)
  ROOT %c = bf16[8,8]{1,0} convolution(%l, %r), dim_labels=bf_io->bf
}

"""


def found(body: str, computations: str = "", devices: int = 4) -> list[collectives.Site]:
    """Sites of an entry computation with `%a`, bf16[8,8] (128 bytes), and a product `%w`."""
    entry = f"""ENTRY %main (a: bf16[8,8]) -> bf16[8,8] {{
  %a = bf16[8,8]{{1,0}} parameter(0)
{body}
  ROOT %w = bf16[8,8]{{1,0}} fusion(%a, %a), kind=kOutput, calls=%product
}}
"""
    header = f"HloModule step, is_scheduled=true, num_partitions={devices}\n\n"
    return collectives.sites(hlo.parse(header + WORK + computations + entry))


@pytest.mark.parametrize(
    ("line", "kind", "received"),
    [
        ("bf16[32,8]{1,0} all-gather(%a), dimensions={0}", "all-gather", 3 * 128),
        ("bf16[8,8]{1,0} all-reduce(%a), to_apply=%add", "all-reduce", 2 * 3 / 4 * 128),
        # Summed in one precision, handed out in another.
        ("f32[8,8]{1,0} all-reduce(%a), to_apply=%add", "all-reduce", 3 / 4 * (128 + 256)),
        ("(bf16[8,8]{1,0}, bf16[8,8]{1,0}) all-reduce(%a, %a), to_apply=%add", "all-reduce", 2 * 3 / 4 * 256),
        ("bf16[2,8]{1,0} reduce-scatter(%a), dimensions={0}, to_apply=%add", "reduce-scatter", 3 / 4 * 128),
        ("bf16[8,8]{1,0} all-to-all(%a), dimensions={0}", "all-to-all", 3 / 4 * 128),
        ("bf16[8,8]{1,0} collective-permute(%a), source_target_pairs={{0,1},{1,0}}", "collective-permute", 128),
    ],
)
def test_bytes_that_a_chip_receives(line, kind, received):
    (site,) = found(f"  %t = {line}, channel_id=1, replica_groups={{{{0,1,2,3}}}}")
    assert (site.kind, site.group, site.bytes, site.executions) == (kind, 4, received, 1)
    assert not site.asynchronous


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}", 4),
        ("replica_groups={{0}}", 1),
        ("replica_groups=[2,8]<=[16]", 8),
        ("replica_groups=[8,2]<=[2,8]T(1,0), use_global_device_ids=true", 2),
        ("replica_groups=mesh['data'=2,'fsdp'=4,'tensor'=3] {'fsdp'}", 4),
        ("replica_groups=mesh['data'=2,'fsdp'=4,'tensor'=3] {'data','tensor'}", 6),
        ("replica_groups=mesh['data'=2,'fsdp'=8] {'data','fsdp':(2)4}", 8),
        ("replica_groups={}", 24),
        ("channel_id=1", 24),
    ],
)
def test_group_size_in_every_notation(groups, size):
    assert collectives.group_size(f", channel_id=3, {groups}, dimensions={{0}}", devices=24) == size


START = """\
  %s = (bf16[8,8]{1,0}, bf16[32,8]{1,0}) all-gather-start(%a), channel_id=1, replica_groups={{0,1,2,3}}, dimensions={0}
"""
DONE = "  %d = bf16[32,8]{1,0} all-gather-done(%s)"


@pytest.mark.parametrize(
    ("between", "asynchronous"),
    [
        ("", False),
        ("  %b = bf16[64]{0} bitcast(%a)\n", False),
        ('  %b = bf16[8,8]{1,0} custom-call(), custom_call_target="AllocateBuffer"\n', False),
        ("  %b = bf16[8,8]{1,0} fusion(%a, %a), kind=kOutput, calls=%product\n", True),
        ('  %b = bf16[8,8]{1,0} custom-call(%a), custom_call_target="tpu_custom_call"\n', True),
    ],
)
def test_a_pair_overlaps_only_if_something_is_computed_in_between(between, asynchronous):
    (site,) = found(START + between + DONE)
    assert (site.kind, site.bytes, site.asynchronous) == ("all-gather", 3 * 128, asynchronous)


# What async_collective_fusion makes of one gather: a start, any number of carriers and a done.
CHAIN = """\
%chain_start (p: bf16[8,8]) -> (bf16[8,8], bf16[32,8], u32[]) {
  %p = bf16[8,8]{1,0} parameter(0)
  %g0 = bf16[32,8]{1,0} all-gather(%p), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %k0 = (bf16[8,8]{1,0}, bf16[32,8]{1,0}, u32[]{:S(2)}) custom-call(%g0), custom_call_target="AsyncCollectiveStart"
}

%carrier (q: bf16[8,8], r0: bf16[32,8], s: u32[]) -> (bf16[8,8], bf16[32,8]) {
  %q = bf16[8,8]{1,0} parameter(0)
  %r0 = bf16[32,8]{1,0} parameter(1)
  %s = u32[]{:S(2)} parameter(2)
  %v = bf16[8,8]{1,0} convolution(%q, %q), dim_labels=bf_io->bf
  %g1 = bf16[32,8]{1,0} all-gather(%q), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %t1 = (bf16[8,8]{1,0}, bf16[32,8]{1,0}) tuple(%v, %g1)
}

%chain_done (u: bf16[8,8], r1: bf16[32,8]) -> bf16[32,8] {
  %u = bf16[8,8]{1,0} parameter(0)
  %r1 = bf16[32,8]{1,0} parameter(1)
  %g2 = bf16[32,8]{1,0} all-gather(%u), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}
  ROOT %k2 = bf16[32,8]{1,0} custom-call(%u, %r1, %g2), custom_call_target="AsyncCollectiveDone"
}

"""
BEGIN = "  %begin = (bf16[8,8]{1,0}, bf16[32,8]{1,0}, u32[]{:S(2)}) fusion(%a), kind=kCustom, calls=%chain_start\n"
CARRIED = "(bf16[8,8]{1,0}, bf16[32,8]{1,0}) fusion(%x, %x, %i), kind=kOutput, calls=%carrier"
CARRY = "  %carry = " + CARRIED.replace("%x, %x, %i", "%a, %a, %a") + "\n"
END = "  %end = bf16[32,8]{1,0} fusion(%a, %a), kind=kCustom, calls=%chain_done"


def test_a_chain_of_fusions_is_one_gather():
    (site,) = found(BEGIN + CARRY + CARRY.replace("%carry", "%again") + END, CHAIN)
    assert (site.name, site.kind, site.executions, site.bytes) == ("begin", "all-gather", 1, 3 * 128)
    assert site.asynchronous


def test_a_loop_that_carries_a_gather_does_not_multiply_it():
    carrying = WINDOWED.replace("%m = bf16[8,8]{1,0} fusion(%x, %x), kind=kOutput, calls=%product", "%m = " + CARRIED)
    gather, permute = found(BEGIN + LOOP + END, CHAIN + carrying)
    assert (gather.name, gather.executions, gather.asynchronous) == ("begin", 1, True)
    assert (permute.kind, permute.executions, permute.asynchronous) == ("collective-permute", 3, True)


def test_a_chain_that_nothing_carries_is_synchronous():
    (site,) = found(BEGIN + END, CHAIN)
    assert not site.asynchronous


SCATTER = """\
%all-reduce-scatter (p: bf16[8,8], i: s32[]) -> bf16[2,8] {
  %p = bf16[8,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %sum = bf16[8,8]{1,0} all-reduce(%p), channel_id=2, replica_groups={{0,1,2,3}}, to_apply=%add
  ROOT %mine = bf16[2,8]{1,0} USE
}

"""


@pytest.mark.parametrize(
    ("use", "kind", "factor"),
    [
        ("dynamic-slice(%sum, %i, %i), dynamic_slice_sizes={2,8}", "reduce-scatter", 3 / 4),
        ("slice(%sum), slice={[0:2], [0:8]}", "all-reduce", 2 * 3 / 4),  # the same part on all chips
    ],
)
def test_a_fused_all_reduce_of_which_a_chip_keeps_its_part_is_a_reduce_scatter(use, kind, factor):
    line = "  %t = bf16[2,8]{1,0} fusion(%a, %a), kind=kCustom, calls=%all-reduce-scatter"
    (site,) = found(line, SCATTER.replace("USE", use))
    assert (site.kind, site.bytes) == (kind, factor * 128)


WINDOWED = """\
%body (state: (s32[], bf16[8,8])) -> (s32[], bf16[8,8]) {
  %state = (s32[], bf16[8,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = bf16[8,8]{1,0} get-tuple-element(%state), index=1
  %two = s32[] constant(2)
  %next = s32[] add(%i, %two)
  %ps = (bf16[8,8]{1,0}, bf16[8,8]{1,0}, u32[]) collective-permute-start(%x), channel_id=3, source_target_pairs={{0,1}}
  %m = bf16[8,8]{1,0} fusion(%x, %x), kind=kOutput, calls=%product
  %pd = bf16[8,8]{1,0} collective-permute-done(%ps)
  ROOT %result = (s32[], bf16[8,8]{1,0}) tuple(%next, %pd)
}

%condition (test: (s32[], bf16[8,8])) -> pred[] {
  %test = (s32[], bf16[8,8]{1,0}) parameter(0)
  %at = s32[] get-tuple-element(%test), index=0
  %bound = s32[] constant(6)
  ROOT %more = pred[] compare(%at, %bound), direction=LT
}

"""
LOOP = """\
  %zero = s32[] constant(0)
  %initial = (s32[], bf16[8,8]{1,0}) tuple(%zero, %a)
  %loop = (s32[], bf16[8,8]{1,0}) while(%initial), condition=%condition, body=%body
"""


def test_totals_and_share_of_a_windowed_product_beside_a_plain_gather():
    gather = "  %t = bf16[32,8]{1,0} all-gather(%a), channel_id=9, replica_groups={{0,1,2,3}}, dimensions={0}\n"
    found_here = found(LOOP + gather, WINDOWED)
    totals = collectives.by_kind(found_here)
    assert totals["collective-permute"] == collectives.Totals(1, 3, 3 * 128, 3 * 128)
    assert totals["all-gather"] == collectives.Totals(1, 1, 3 * 128, 0)
    assert collectives.async_gather_share(found_here) == 0.5


def test_a_transfer_that_ends_in_the_next_iteration_overlaps_with_what_follows_it():
    crossing = WINDOWED.replace("  %pd = bf16[8,8]{1,0} collective-permute-done(%ps)\n", "").replace("%pd)", "%m)")
    (site,) = found(LOOP, crossing)
    assert (site.executions, site.asynchronous) == (3, True)


def test_slices_exchange_through_their_hosts():
    attributes = 'is_host_transfer=true, frontend_attributes={_xla_host_transfer_rendezvous="all-reduce.10_0"}'
    lines = f"""  %go = token[] after-all()
  %rs = (bf16[2,8]{{1,0}}, u32[]{{:S(2)}}, token[]) recv(%go), channel_id=5, {attributes}
  %m = bf16[8,8]{{1,0}} fusion(%a, %a), kind=kOutput, calls=%product
  %rd = (bf16[2,8]{{1,0}}, token[]) recv-done(%rs), channel_id=5, is_host_transfer=true"""
    (site,) = found(lines)
    assert (site.kind, site.bytes, site.asynchronous) == (collectives.BETWEEN_SLICES, 32, True)


def test_no_gathers_no_share():
    assert collectives.async_gather_share(found("")) is None
    assert collectives.by_kind(found("")) == {}


LAYERS, WIDTH, HIDDEN, CHIPS = 3, 512, 1024, 16


@pytest.fixture(scope="module")
def live():
    """A scanned two-matrix network with full remat, parameters cut over 16 chips, as compiled by libtpu for v5e."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # several test processes may compile at once
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    from jax.experimental import topologies

    def loss(weights, x):
        def layer(x, w):
            return x + jax.nn.relu(x @ w["up"]) @ w["down"], None

        x, _ = jax.lax.scan(jax.checkpoint(layer, prevent_cse=False), x, weights)
        return jnp.sum(x.astype(jnp.float32) ** 2)

    def step(weights, x):
        gradients = jax.grad(loss)(jax.tree.map(lambda w: w.astype(jnp.bfloat16), weights), x)
        return jax.tree.map(lambda w, g: w - 1e-3 * g.astype(jnp.float32), weights, gradients)

    mesh = Mesh(np.array(topologies.get_topology_desc(platform="tpu", topology_name="v5e:4x4").devices), ("fsdp",))

    def array(shape, dtype, *spec):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*spec)))

    weights = {
        "up": array((LAYERS, WIDTH, HIDDEN), jnp.float32, None, "fsdp"),
        "down": array((LAYERS, HIDDEN, WIDTH), jnp.float32, None, None, "fsdp"),
    }
    x = array((CHIPS, 256, WIDTH), jnp.bfloat16, "fsdp")
    where = jax.tree.map(lambda leaf: leaf.sharding, weights)
    compiled = jax.jit(step, donate_argnums=0, out_shardings=where).lower(weights, x).compile()
    return hlo.parse(compiled.as_text() or "")


def test_live_text_gathers_and_reduces_what_sharded_training_must(live):
    """Every weight reaches a chip twice in bfloat16 (forward, backward); every gradient is reduced once."""
    assert live.devices == CHIPS
    assert sorted(trips for trips in trip_counts(live).values() if trips == LAYERS) == [LAYERS, LAYERS]
    weights = 2 * WIDTH * HIDDEN * LAYERS * 2  # bytes in bfloat16
    totals = collectives.by_kind(collectives.sites(live))
    gathered = sum(totals[kind].bytes for kind in collectives.GATHERS if kind in totals)
    assert gathered == pytest.approx(2 * weights * (CHIPS - 1) / CHIPS, rel=0.1)
    reduced = totals["all-reduce"].bytes if "all-reduce" in totals else 2 * totals["reduce-scatter"].bytes
    assert reduced == pytest.approx(2 * weights * (CHIPS - 1) / CHIPS, rel=0.1)


def test_live_traffic_lies_between_its_limits(live):
    """Masters are read and written at least; and this network's activations and weights fit into VMEM."""
    shard = 2 * WIDTH * HIDDEN * LAYERS / CHIPS * 4
    assert 2 * shard <= traffic.hbm_bytes(live) <= 10 * shard
