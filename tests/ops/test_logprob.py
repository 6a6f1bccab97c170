import jax
import jax.numpy as jnp
import numpy as np

from rlaifv_jax.ops.logprob import target_log_probs


def test_equals_log_softmax_of_full_logits_with_gradients():
    rng = np.random.default_rng(0)
    hidden, head = (jnp.array(rng.normal(size=shape), jnp.float32) for shape in ((2, 9, 8), (8, 13)))
    sources, targets = (jnp.array(rng.integers(0, high, (2, 5))) for high in (9, 13))

    def full(hidden, head):
        table = jax.nn.log_softmax(hidden @ head, axis=-1)
        return table[jnp.arange(2)[:, None], sources, targets]

    def ours(hidden, head):
        return target_log_probs(hidden, head, sources, targets)

    np.testing.assert_allclose(ours(hidden, head), full(hidden, head), atol=1e-5)
    weights = jnp.array(rng.normal(size=(2, 5)), jnp.float32)
    expected, found = (
        jax.grad(lambda h, w, f=f: jnp.sum(f(h, w) * weights), argnums=(0, 1))(hidden, head) for f in (full, ours)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_no_logits_for_the_whole_row():
    t, v = 512, 1024
    args = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((1, t, 8), (8, v))]
    args += [jax.ShapeDtypeStruct((1, 16), jnp.int32)] * 2
    text = jax.jit(target_log_probs).lower(*args).as_text()
    assert f"{t}x{v}" not in text
    assert f"16x{v}" in text
