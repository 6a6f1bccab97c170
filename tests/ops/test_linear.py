"""The linear map and which factor of its kernel's gradient is transposed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlaifv_jax.ops.linear import linear


@pytest.mark.parametrize(("narrow", "wide"), [(8, 24), (24, 8), (8, 8)])
def test_value_and_gradients_are_those_of_a_product(narrow, wide):
    chance = np.random.default_rng(0)
    x, kernel, weight = (jnp.array(chance.normal(size=s), jnp.float32) for s in ((2, 5, narrow), (narrow, wide), wide))
    found = jax.value_and_grad(lambda *a: jnp.sum(linear(*a) * weight), argnums=(0, 1))(x, kernel)
    expected = jax.value_and_grad(lambda *a: jnp.sum((a[0] @ a[1]) * weight), argnums=(0, 1))(x, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), found, expected)


@pytest.mark.parametrize(("width_in", "width_out"), [(8, 24), (24, 8)])
def test_the_narrower_factor_comes_first(width_in, width_out):
    """Of the product over tokens; XLA transposes the first factor of it."""
    x, kernel = jnp.zeros((2, 5, width_in)), jnp.zeros((width_in, width_out))
    jaxpr = jax.make_jaxpr(jax.grad(lambda kernel: jnp.sum(linear(x, kernel) ** 2)))(kernel)
    (over_tokens,) = (
        each.invars
        for each in jaxpr.eqns
        if each.primitive.name == "dot_general" and each.params["dimension_numbers"][0] == ((0, 1), (0, 1))
    )
    assert [factor.aval.shape[-1] for factor in over_tokens] == sorted((width_in, width_out))
