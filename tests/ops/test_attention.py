import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.masking_utils import sliding_window_causal_mask_function

from rlaifv_jax.jaxpr_flops import dot_flops
from rlaifv_jax.ops import flash_gpu, flash_tpu
from rlaifv_jax.ops.attention import attention, default_backend
from rlaifv_jax.ops.flash import kernel_flops
from rlaifv_jax.ops.layout import DEAD, FULL, Layout, allowed, block_states, visits
from rlaifv_jax.parallel import make_mesh
from tests.ops.layouts import assert_all_close, assert_padding_is_zero, by, lay_out, layouts, operands

RULE = jax.jit(allowed, static_argnums=1)


def torch_attention(query, key, value, row=slice(None), *, causal, mask=None):
    q, k, v = (torch.tensor(np.asarray(x)[:, row]).transpose(1, 2) for x in (query, key, value))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, enable_gqa=True)
    return out.transpose(1, 2).numpy()


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_heads_equal_torch(kv_heads):
    query, key, value, _ = operands(2, 11, 4, kv_heads, 8)
    for layout, causal in ((None, False), (lay_out([[(0, 11, ())]] * 2, 11), True)):
        ours = attention(query, key, value, layout=layout, scale=8**-0.5, window=None, backend="dense")
        np.testing.assert_allclose(ours, torch_attention(query, key, value, causal=causal), atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.just(0), st.integers(1, 6), st.tuples(*[st.integers(0, 5)] * 2)), min_size=1, max_size=3))
def test_every_branch_sees_what_a_row_of_its_own_would_show(pairs):
    layout = lay_out([pairs], 50)
    segments, branches = layout.segments[0], layout.branches[0]
    query, key, value, cotangent = operands(1, 50, 4, 2, 8)
    packed, *_ = by("dense", None)(query, key, value, cotangent, layout)
    for segment in range(1, len(pairs) + 1):
        for branch in (1, 2):
            row = np.flatnonzero((segments == segment) & ((branches == 0) | (branches == branch)))
            alone = torch_attention(query, key, value, row, causal=True)
            np.testing.assert_allclose(np.asarray(packed)[:, row], alone, atol=2e-6)


@pytest.mark.parametrize("window", [1, 3, 30])
def test_sliding_window_equals_transformers(window):
    """A branch too slides over its own prefix: its row of its own has the positions that the layout says."""
    layout = lay_out([[(0, 12, (7, 9)), (0, 5, (6,))]], 40)
    mine = np.asarray(RULE(layout, window))[0]
    theirs = sliding_window_causal_mask_function(window)
    for segment, branch in ((1, 1), (1, 2), (2, 1)):
        own = (layout.branches[0] == 0) | (layout.branches[0] == branch)
        row = np.flatnonzero((layout.segments[0] == segment) & own)
        at = torch.arange(len(row))
        expected = theirs(0, 0, at[:, None], at[None, :])
        np.testing.assert_array_equal(mine[np.ix_(row, row)], expected.numpy())
        query, key, value, cotangent = operands(1, 40, 2, 1, 8)
        ours, *_ = by("dense", window)(query, key, value, cotangent, layout)
        alone = torch_attention(query, key, value, row, causal=False, mask=expected)
        np.testing.assert_allclose(np.asarray(ours)[:, row], alone, atol=2e-6)


@settings(max_examples=30, deadline=None)
@given(layouts(1, 18), st.sampled_from([None, 1, 4]))
def test_the_rule_token_by_token(layout, window):
    found = np.asarray(RULE(layout, window))[0]
    segments, branches, positions = (ids[0] for ids in layout)
    for i in range(18):
        for j in range(18):
            expected = j <= i and segments[i] == segments[j] != 0 and branches[j] in (0, branches[i])
            if window is not None:
                expected = expected and positions[i] - positions[j] < window
            assert found[i, j] == expected, (i, j)


def test_padding_sees_nothing_and_gives_nothing():
    layout = lay_out([[(3, 20, (9, 4))], []], 50)
    found = by("dense", None)(*operands(2, 50, 2, 1, 16), layout)
    assert_padding_is_zero(found, layout)
    assert np.all(np.any(np.asarray(found[0])[layout.segments > 0] != 0, axis=-1))


@pytest.mark.parametrize(
    ("backend", "batch", "heads", "kv_heads", "shard"),
    [
        ("flash_tpu", 4, 4, 2, (1, 100, 2, 16)),
        ("flash_gpu", 4, 4, 2, (1, 100, 2, 16)),
        ("flash_tpu", 4, 4, 1, (1, 100, 4, 16)),  # one key/value head on two devices
        ("flash_gpu", 3, 3, 3, (3, 100, 3, 16)),  # neither rows nor heads divide
    ],
)
def test_sharded_equals_whole(backend, batch, heads, kv_heads, shard):
    layout = lay_out([[(0, 30, (25, 30)), (2, 10, (3,))], [(0, 90, ())], [], [(0, 10, (30, 40, 20))]][:batch], 100)
    arrays = operands(batch, 100, heads, kv_heads, 16)
    whole = by("dense", None)(*arrays, layout)
    with jax.set_mesh(make_mesh(2, 2, 2)):
        spread = by(backend, None)(*arrays, layout)
    assert_all_close(spread, whole, 1e-5)
    assert spread[0].sharding.shard_shape(spread[0].shape) == shard


def test_tower_sharded_equals_whole():
    arrays = operands(4, 70, 2, 2, 16)
    with jax.set_mesh(make_mesh(2, 2, 2)):
        spread = by("flash_gpu", None)(*arrays, None)
    assert_all_close(spread, by("dense", None)(*arrays, None), 1e-5)


@settings(max_examples=60, deadline=None)
@given(layouts(2, 48), st.sampled_from([(8, 16), (16, 8)]), st.sampled_from([None, 5]))
def test_states_of_blocks(layout, blocks, window):
    """Nothing is lost or wrongly called full; without a window nothing is computed in vain either."""
    states = np.asarray(block_states(layout, *blocks, window=window, causal=True))
    tokens = np.asarray(RULE(layout, window)).reshape(2, 48 // blocks[0], blocks[0], 48 // blocks[1], blocks[1])
    some, every = tokens.any((2, 4)), tokens.all((2, 4))
    assert not np.any(some & (states == DEAD))
    assert not np.any(~every & (states == FULL))
    if window is None:
        np.testing.assert_array_equal(states != DEAD, some)
        np.testing.assert_array_equal(states == FULL, every)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 3]))
def test_states_are_safe_for_ids_in_any_order(seed, window):
    ids = np.random.default_rng(seed).integers(0, 3, (3, 4, 12)).repeat(4, axis=-1)
    tokens = np.asarray(RULE(Layout(*ids), window)).reshape(4, 6, 8, 6, 8)
    states = np.asarray(block_states(Layout(*ids), 8, 8, window=window, causal=True))
    assert not np.any(tokens.any((2, 4)) & (states == DEAD))
    assert not np.any(~tokens.all((2, 4)) & (states == FULL))


def test_states_of_a_pair_by_hand():
    """Prefix 0-15, chosen 16-31, rejected 32-47, a second segment 48-55, padding, in blocks of 8."""
    layout = lay_out([[(0, 16, (16, 16)), (0, 8, ())]], 64)
    expected = [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [2, 1, 0, 0, 0, 0, 0, 0],
        [2, 2, 1, 0, 0, 0, 0, 0],
        [2, 2, 2, 1, 0, 0, 0, 0],
        [2, 2, 0, 0, 1, 0, 0, 0],  # rejected answers do not look at chosen ones
        [2, 2, 0, 0, 2, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]
    np.testing.assert_array_equal(block_states(layout, 8, 8, window=None, causal=True)[0], expected)
    # Of 16 positions each: query block 4 starts at position 16, like query block 2.
    expected = [row[:] for row in expected]
    for i, j, state in ((2, 0, 1), (3, 0, 0), (3, 1, 1), (4, 0, 1), (5, 0, 0), (5, 1, 1)):
        expected[i][j] = state
    np.testing.assert_array_equal(block_states(layout, 8, 8, window=16, causal=True)[0], expected)


def test_order_of_visits():
    states = jnp.array([[[1, 0, 2, 1], [0, 0, 0, 0], [0, 2, 0, 0]]])
    order, full, live = visits(states)
    np.testing.assert_array_equal(order, [[[2, 0, 3, 3], [0, 0, 0, 0], [1, 1, 1, 1]]])
    np.testing.assert_array_equal(full, [[1, 0, 1]])
    np.testing.assert_array_equal(live, [[3, 0, 1]])


def test_operations_of_kernels():
    """Blocks of 512 on a TPU, of 64 on a GPU; the rejected answer's do not visit the chosen one's."""
    layout = lay_out([[(0, 1024, (512, 512))]], 2048)
    for kernels, block, live in ((flash_tpu.KERNELS, 512, 10 - 1), (flash_gpu.KERNELS, 64, 32 * 33 // 2 - 8 * 8)):
        found = kernel_flops(kernels, layout, 32, 128, jnp.bfloat16, window=None)
        product = 2.0 * live * block**2 * 32 * 128
        parts = {"forward": 2 * product, "query_gradient": 3 * product, "key_gradient": 4 * product}
        assert found == {f"attention_{part}": flops for part, flops in parts.items()}


@pytest.mark.parametrize("backend", ["flash_tpu", "flash_gpu"])
def test_operations_of_a_tower_are_its_estimates(backend):
    """577 tokens are padded to 640, and heads of 64 to 128 on a TPU."""
    query, key, value, cotangent = operands(2, 577, 16, 16, 64, jnp.bfloat16)
    traced = by(backend, None).trace(query, key, value, cotangent, None)
    width = {"flash_tpu": 128, "flash_gpu": 64}[backend]
    assert dot_flops(traced.jaxpr) == (2 + 3 + 4) * 2 * (2 * 16 * 640**2 * width)


def test_what_cannot_be_is_named():
    query, key, value, _ = operands(1, 4, 2, 2, 8)
    layout = lay_out([[(0, 4, ())]], 4)
    listed = "dense, blocked, flash_tpu, flash_gpu"
    for backend, ids, window, message in (
        ("flash", layout, None, f"unknown attention backend 'flash'; there are {listed}, cudnn$"),
        ("cudnn", layout, None, f"Decoders need one of {listed}"),
        ("dense", None, 5, "window needs a layout"),
    ):
        with pytest.raises(ValueError, match=message):
            attention(query, key, value, layout=ids, scale=1.0, window=window, backend=backend)
    half = [x.astype(jnp.float16) for x in (query, key, value)]
    with pytest.raises(ValueError, match="not in float16"):
        attention(*half, layout=None, scale=1.0, window=None, backend="flash_gpu")


def test_default_backend_of_a_platform():
    expected = {"tpu": "flash_tpu", "gpu": "flash_gpu", "cuda": "flash_gpu", "cpu": "blocked"}
    assert {platform: default_backend(platform) for platform in expected} == expected
