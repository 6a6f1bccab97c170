import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlaifv_jax import parallel
from rlaifv_jax.ops.logprob import block_size, target_log_probs

B, T, D, R = 4, 9, 8, 5


def inputs(vocab, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    hidden, head = (jnp.array(rng.normal(size=shape), dtype) for shape in ((B, T, D), (D, vocab)))
    sources, targets = (jnp.array(rng.integers(0, high, (B, R))) for high in (T, vocab))
    weights = jnp.array(rng.normal(size=(B, R)), jnp.float32)
    return hidden, head, sources, targets.at[0, :2].set(jnp.array([0, vocab - 1])), weights


def full(hidden, head, sources, targets):
    table = jax.nn.log_softmax((hidden @ head).astype(jnp.float32), axis=-1)
    return table[jnp.arange(B)[:, None], sources, targets]


def with_gradients(function, hidden, head, sources, targets, weights):
    def scalar(hidden, head):
        values = function(hidden, head, sources, targets)
        return jnp.sum(values * weights), values

    return jax.jit(jax.value_and_grad(scalar, argnums=(0, 1), has_aux=True))(hidden, head)


def assert_equal(found, expected, atol=1e-5):
    (_, values), gradients = found
    (_, expected_values), expected_gradients = expected
    for a, b in zip((values, *gradients), (expected_values, *expected_gradients), strict=True):
        np.testing.assert_allclose(np.asarray(a, np.float32), np.asarray(b, np.float32), atol=atol)


@pytest.mark.parametrize(("vocab", "block"), [(13, 64), (512, 128), (512, 512), (397, 128), (640, 300), (130, 128)])
def test_equals_log_softmax_of_full_logits_with_gradients(vocab, block):
    """In one block, in blocks that divide the vocabulary, and with a last one that is part padding."""
    arguments = inputs(vocab)
    found = with_gradients(lambda *a: target_log_probs(*a, vocab_block=block), *arguments)
    assert_equal(found, with_gradients(full, *arguments))


@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 2, 2), (1, 2, 4), (8, 1, 1), (1, 1, 8)])
def test_every_mesh_gives_the_same(sizes):
    """Rows, width and vocabulary cut; with (1, 8, 1) four rows do not divide and lie whole on every device."""
    arguments = inputs(1024)
    mesh = parallel.make_mesh(*sizes, devices=jax.devices()[:8])
    with jax.set_mesh(mesh):
        names = (("batch", None, None), ("embed", "vocab"), ("batch", None), ("batch", None), ("batch", None))
        placed = [
            jax.device_put(x, jax.NamedSharding(mesh, parallel.spec(axes, x.shape, mesh)))
            for x, axes in zip(arguments, names, strict=True)
        ]
        found = with_gradients(lambda *a: target_log_probs(*a, vocab_block=128), *placed)
    assert_equal(found, with_gradients(full, *arguments))


def test_extreme_logits_stay_finite():
    hidden, head, sources, targets, weights = inputs(397)
    arguments = (hidden * 100, head * 100, sources, targets, weights)
    found = with_gradients(lambda *a: target_log_probs(*a, vocab_block=128), *arguments)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    np.testing.assert_allclose(found[0][1], full(*arguments[:4]), rtol=1e-5)


def test_sums_are_float32_when_weights_are_bfloat16():
    arguments = inputs(1024, jnp.bfloat16)
    found = with_gradients(lambda *a: target_log_probs(*a, vocab_block=128), *arguments)
    exact = with_gradients(full, *(x.astype(jnp.float32) for x in arguments[:2]), *arguments[2:])
    np.testing.assert_allclose(found[0][1], exact[0][1], atol=1e-5)  # products of bfloat16 are exact in float32
    assert_equal(found, exact, atol=0.06)  # gradients are rounded to bfloat16


@pytest.mark.parametrize("vocab", [2048, 16384])
def test_no_logits_of_the_whole_vocabulary_or_row(vocab):
    """Beyond the gradients of head and hidden states: two blocks of logits and their like, whatever V and T."""
    t, d, r, block = 4096, 64, 128, 256
    hidden, head = jax.ShapeDtypeStruct((1, t, d), jnp.float32), jax.ShapeDtypeStruct((d, vocab), jnp.float32)
    numbers = jax.ShapeDtypeStruct((1, r), jnp.int32)

    def loss(hidden, head, sources, targets):
        return target_log_probs(hidden, head, sources, targets, vocab_block=block).sum()

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(hidden, head, numbers, numbers).compile()
    head_gradient = 4 * d * vocab
    assert compiled.memory_analysis().temp_size_in_bytes < 1.1 * head_gradient + 5 * 4 * r * block + 4 * 4 * t * d
    text = compiled.as_text()
    assert f"{t},{vocab}]" not in text
    assert f"{r},{vocab}]" not in text


def test_block_sizes():
    assert block_size(1000, 4096) == 1000
    assert block_size(32_000, 4096) == 3200  # 250 · 128 = 10 · 25 · 128
    assert block_size(32_768, 4096) == 4096
    assert block_size(32_003, 4096) == 4096  # a prime: the last block is padded
