import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaifv_jax.ops.attention import Layout, attention


def random_qkv(rng, t, heads=4, kv_heads=2, width=8, batch=1):
    query = rng.normal(size=(batch, t, heads, width)).astype(np.float32)
    key, value = (rng.normal(size=(batch, t, kv_heads, width)).astype(np.float32) for _ in range(2))
    return query, key, value


def torch_attention(query, key, value, *, causal):
    q, k, v = (torch.tensor(x).transpose(1, 2) for x in (query, key, value))
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    return out.transpose(1, 2).numpy()


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_grouped_heads_equal_torch(kv_heads):
    query, key, value = random_qkv(np.random.default_rng(0), 11, kv_heads=kv_heads, batch=2)
    for layout, causal in ((None, False), (Layout(jnp.ones((2, 11), int), jnp.zeros((2, 11), int)), True)):
        ours = attention(query, key, value, layout=layout, scale=8**-0.5, backend="dense")
        np.testing.assert_allclose(ours, torch_attention(query, key, value, causal=causal), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=3))
def test_every_branch_sees_what_a_row_of_its_own_would_show(pairs):
    rng = np.random.default_rng(1)
    segments, branches = [], []
    for number, (prefix, chosen, rejected) in enumerate(pairs):
        segments += [number + 1] * (prefix + chosen + rejected)
        branches += [0] * prefix + [1] * chosen + [2] * rejected
    segments, branches = np.array([*segments, 0, 0]), np.array([*branches, 0, 0])
    query, key, value = random_qkv(rng, len(segments))
    layout = Layout(jnp.array(segments)[None], jnp.array(branches)[None])
    packed = attention(query, key, value, layout=layout, scale=8**-0.5, backend="dense")
    for segment in range(1, len(pairs) + 1):
        for branch in (1, 2):
            row = np.flatnonzero((segments == segment) & ((branches == 0) | (branches == branch)))
            alone = torch_attention(query[:, row], key[:, row], value[:, row], causal=True)
            np.testing.assert_allclose(packed[:, row], alone, atol=2e-6)


def test_unknown_backend_is_named():
    query, key, value = random_qkv(np.random.default_rng(0), 3)
    with pytest.raises(ValueError, match="'cudnn'"):
        attention(query, key, value, layout=None, scale=1.0, backend="cudnn")
