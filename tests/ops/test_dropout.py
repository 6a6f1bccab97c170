import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from rlaifv_jax.ops.dropout import dropout
from rlaifv_jax.parallel import make_mesh


def masks(count, shape=(16, 64, 128), rate=0.25):
    keys = jax.vmap(jax.random.key_data)(jax.random.split(jax.random.key(0), count))
    return np.asarray(jax.vmap(lambda key: dropout(jnp.ones(shape), key, rate) > 0)(keys))


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_the_share_and_the_mean(rate):
    x = jnp.ones((64, 512, 32))
    out = np.asarray(dropout(x, jnp.array([1, 2], jnp.uint32), rate))
    assert set(np.unique(out)) == {np.float32(0), np.float32(1 / (1 - rate))}
    five_sigma = 5 * np.sqrt(rate * (1 - rate) / out.size)
    assert abs((out == 0).mean() - rate) < five_sigma


def test_neighbours_rows_and_keys_are_independent():
    found = masks(8).astype(np.float64) - 0.75
    variance, count = 0.25 * 0.75, found[0].size
    bound = 5 * variance / np.sqrt(count)
    for other in (
        found[:, :, :, 1:] * found[:, :, :, :-1],  # features
        found[:, :, 1:] * found[:, :, :-1],  # tokens
        found[:, 1:] * found[:, :-1],  # rows
        found[1:] * found[:-1],  # keys
        found[:, :, :, 32:] * found[:, :, :, :-32],
    ):
        assert abs(other[0].mean()) < 1.1 * bound
    assert abs(found.mean()) < 5 * np.sqrt(variance / found.size)
    per_feature = masks(32, (8, 64, 64)).mean(axis=(0, 1, 2))
    assert np.abs(per_feature - 0.75).max() < 5 * np.sqrt(variance / (32 * 8 * 64))


def test_every_mesh_drops_the_same():
    x, key = jnp.ones((8, 12, 16)), jnp.array([3, 4], jnp.uint32)
    alone = dropout(x, key, 0.5)
    mesh = make_mesh(2, 2, 2, jax.devices()[:8])
    spread = jax.device_put(x, jax.NamedSharding(mesh, P(("data", "fsdp"), None, "tensor")))
    np.testing.assert_array_equal(jax.jit(lambda x: dropout(x, key, 0.5))(spread), alone)


def test_in_bfloat16_and_backwards():
    x, key = jnp.full((4, 8), 2, jnp.bfloat16), jnp.array([3, 4], jnp.uint32)
    out, back = jax.vjp(lambda x: dropout(x, key, 0.5), x)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(back(jnp.ones_like(out))[0], out / 2)
