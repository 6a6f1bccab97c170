"""Rows of a tower that are padded at their ends: every backend against a written-out softmax over the real keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlaifv_jax.ops.attention import BACKENDS, attention
from rlaifv_jax.ops.flash import flash
from rlaifv_jax.parallel import make_mesh
from tests.ops.layouts import assert_all_close, lay_out, operands, with_gradients
from tests.ops.test_backends import SMALL_BLOCKS

LENGTHS = np.array([130, 1, 77, 128], np.int32)
TOKENS, WIDTH, HEADS = 130, 72, 2


def written_out(query, key, value, lengths):
    """Row by row over the real tokens only; zeros behind them."""
    rows = []
    for q, k, v, length in zip(query, key, value, lengths, strict=True):
        q, k, v = (x[:length].swapaxes(0, 1) for x in (q, k, v))  # [H, t, C]
        scores = q @ k.swapaxes(1, 2) * WIDTH**-0.5
        exponents = jnp.exp(scores - scores.max(-1, keepdims=True))
        out = (exponents / exponents.sum(-1, keepdims=True)) @ v
        rows.append(jnp.pad(out.swapaxes(0, 1), ((0, len(query[0]) - length), (0, 0), (0, 0))))
    return jnp.stack(rows)


def by(backend, lengths=LENGTHS, *, small_blocks=True):
    def attend(query, key, value, layout):
        options = {"scale": WIDTH**-0.5, "window": None, "lengths": jnp.asarray(lengths)}
        if small_blocks and backend in SMALL_BLOCKS:
            kernels, blocks = SMALL_BLOCKS[backend]
            return flash(kernels, query, key, value, layout=layout, blocks=blocks, **options)
        return attention(query, key, value, layout=layout, backend=backend, **options)

    return with_gradients(attend)


@pytest.fixture(autouse=True)
def cudnn_by_xla(monkeypatch):
    """cuDNN's kernels need a GPU; JAX's other implementation takes the same arguments."""
    real = jax.nn.dot_product_attention
    monkeypatch.setattr(
        jax.nn, "dot_product_attention", lambda *arrays, **given: real(*arrays, **given | {"implementation": "xla"})
    )


def real_only(arrays):
    """Nothing looks at what comes out behind the lengths."""
    *inputs, cotangent = arrays
    real = (np.arange(TOKENS) < LENGTHS[:, None])[..., None, None]
    return *inputs, jnp.where(real, cotangent, 0), real


@pytest.mark.parametrize("backend", BACKENDS)
def test_values_and_gradients(backend):
    *arrays, real = real_only(operands(4, TOKENS, HEADS, HEADS, WIDTH))
    out, *gradients = by(backend)(*arrays, None)
    expected = with_gradients(lambda q, k, v, _: written_out(q, k, v, LENGTHS))(*arrays, None)
    assert_all_close((np.where(real, out, 0), *gradients), expected, 1e-5)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_hidden_weighs_exactly_nothing(backend):
    """However large it is, also in bfloat16."""
    *arrays, real = real_only(operands(4, TOKENS, HEADS, HEADS, WIDTH, jnp.bfloat16))
    query, key, value, cotangent = arrays
    key, value = (jnp.where(real, x, -100 * x).astype(jnp.bfloat16) for x in (key, value))
    plain, loud = (by(backend)(query, *kv, cotangent, None) for kv in ((arrays[1], arrays[2]), (key, value)))
    for a, b in zip(plain, loud, strict=True):
        a, b = (np.where(real, np.asarray(x, np.float32), 0) for x in (a, b))
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_padding_only_are_finite(backend):
    arrays = operands(4, TOKENS, HEADS, HEADS, WIDTH)
    for found in by(backend, np.zeros(4, np.int32))(*arrays, None):
        assert np.isfinite(found).all()


def test_fewer_queries_than_keys():
    query, key, value, _ = operands(4, TOKENS, HEADS, HEADS, WIDTH)
    options = {"layout": None, "scale": WIDTH**-0.5, "window": None, "backend": "dense", "lengths": LENGTHS}
    whole = attention(query, key, value, **options)
    np.testing.assert_allclose(attention(query[:, :5], key, value, **options), whole[:, :5], atol=1e-6)


@pytest.mark.parametrize("backend", ["flash_tpu", "flash_gpu"])
def test_sharded_equals_whole(backend):
    arrays = real_only(operands(4, TOKENS, HEADS, HEADS, WIDTH))[:-1]
    whole = by(backend)(*arrays, None)
    with jax.set_mesh(make_mesh(2, 2, 2)):
        found = by(backend, small_blocks=False)(*arrays, None)
    assert_all_close(found, whole, 1e-5)


def test_not_beside_a_layout():
    query, key, value, _ = operands(1, 4, 2, 2, 8)
    layout = lay_out([[(0, 4, ())]], 4)
    with pytest.raises(ValueError, match="lengths are for rows without one"):
        attention(query, key, value, layout=layout, scale=1.0, window=None, backend="dense", lengths=jnp.array([2]))
