import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlaifv_jax import array_sums as module
from rlaifv_jax import parallel
from rlaifv_jax.array_sums import array_sums


def tree(dtype, shape=(8, 16, 4)):
    values = np.random.default_rng(0).integers(-100, 100, shape)
    return {"a": {"b": jnp.asarray(values, dtype)}, "step": jnp.zeros((), jnp.int32)}


def mesh(*sizes):
    return parallel.make_mesh(*sizes)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.int8, jnp.int32])
def test_any_bit_counts_and_any_place(dtype):
    before = tree(dtype)
    sums = array_sums(before, mesh(1, 8, 1))
    assert sums.keys() == {"a/b", "step"}
    values = np.asarray(before["a"]["b"])
    for place in ((0, 0, 0), (7, 15, 3), (3, 4, 1)):
        for bit in range(8 * values.itemsize):
            changed = values.copy()
            word = changed[place].view(f"u{values.itemsize}")
            changed[place] = (word ^ word.dtype.type(1 << bit)).view(values.dtype)
            found = array_sums({"a": {"b": jnp.asarray(changed)}, "step": before["step"]}, mesh(1, 8, 1))
            assert found["a/b"] != sums["a/b"], (place, bit)
            assert found["step"] == sums["step"]
    swapped = values.copy()
    swapped[[0, 1]] = swapped[[1, 0]]
    assert array_sums({"a": {"b": jnp.asarray(swapped)}}, mesh(1, 8, 1))["a/b"] != sums["a/b"]


def test_the_mesh_does_not_count():
    values = tree(jnp.float32)
    sums = array_sums(values, mesh(1, 8, 1))
    for sizes in ((1, 4, 2), (2, 4, 1)):
        devices = mesh(*sizes)
        where = parallel.shardings({"a": {"b": ("embed", "heads", None)}, "step": ()}, values, devices)
        assert array_sums(jax.device_put(values, where), devices) == sums


def test_it_is_compiled_once():
    module._summing.cache_clear()
    for _ in range(3):
        array_sums(tree(jnp.float32), mesh(1, 8, 1))
    (function,) = [module._summing(parallel.replicated(mesh(1, 8, 1)))]
    assert function._cache_size() == 1
