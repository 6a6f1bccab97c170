import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from rlaifv_jax import parallel
from rlaifv_jax.fingerprint import model_fingerprint, settings_fingerprint


def tree(seed=0):
    return {"a": {"kernel": jax.random.normal(jax.random.key(seed), (3, 16, 24))}, "b": jnp.arange(16.0)}


def test_same_weights_same_name_on_every_mesh():
    mesh = parallel.make_mesh(1, 4, 2, devices=jax.devices()[:8])
    spread = jax.device_put(tree(), {"a": {"kernel": NamedSharding(mesh, P(None, "fsdp", "tensor"))}, "b": None})
    assert model_fingerprint(spread, "float32") == model_fingerprint(tree(), "float32")


def test_every_value_and_its_place_count():
    name = model_fingerprint(tree(), "float32")
    flipped = tree()
    flipped["a"]["kernel"] = flipped["a"]["kernel"].at[2, 15, 23].multiply(1 + 1e-6)
    swapped = tree()
    swapped["b"] = swapped["b"].at[jnp.array([3, 4])].set(jnp.array([4.0, 3.0]))
    renamed = {"c": tree()["a"], "b": tree()["b"]}
    assert len({name, *(model_fingerprint(t, "float32") for t in (flipped, swapped, renamed, tree(1)))}) == 5


def test_names_are_of_the_weights_in_compute_precision():
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tree())
    assert model_fingerprint(narrow, "bfloat16") == model_fingerprint(tree(), "bfloat16")
    assert model_fingerprint(tree(), "bfloat16") != model_fingerprint(tree(), "float32")


def test_settings_do_not_depend_on_order():
    assert settings_fingerprint({"a": 1, "b": (2, 3)}) == settings_fingerprint({"b": [2, 3], "a": 1})
    assert settings_fingerprint({"a": 1}) != settings_fingerprint({"a": 2})
