"""Attention to a cache against plain attention over whole rows, written out here once more."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlaifv_jax.ops.cached import COLUMNS, Cached, Sight, cached_attention, store

G, K, C, P = 2, 2, 8, 40
S = 2 * COLUMNS


def case(seed: int, branches: int, together: bool, dtype: str = "float32"):  # type: ignore[no-untyped-def]
    """Random query, cache and sight: G prompts, `branches` branches of unequal lengths (beams: equal ones)."""
    rng = np.random.default_rng(seed)
    families, members = (G, branches) if together else (G * branches, 1)

    def cached(*sizes: int) -> Cached:
        return Cached(*(store(jnp.asarray(rng.normal(size=(*sizes, C)), jnp.float32), dtype) for _ in range(2)))

    query = jnp.asarray(rng.normal(size=(G, branches, 2 * K, C)), jnp.float32)
    prefix_lengths = np.array([P, 17])
    used = rng.integers(1, S, (families,))
    used[0] = 3
    columns = np.arange(S) < used[:, None]
    holders = rng.integers(0, members, (families, members, S))
    seen = (holders[:, :, None] == np.arange(members)[:, None]) & columns[:, None, None]
    positions = (prefix_lengths.repeat(families // G) + used - 1).repeat(members).reshape(G, branches)
    places = prefix_lengths.repeat(families // G)[:, None] + np.arange(S)
    sight = Sight(*map(jnp.asarray, (prefix_lengths, positions, seen, places, used.max())))
    return query, cached(G, K, P), cached(families, K, members, S), sight


def plain(query, prefix, suffix, sight, window):  # type: ignore[no-untyped-def]
    """One query after the other."""
    out = np.zeros(query.shape)
    members = sight.columns.shape[1]
    for g in range(G):
        for n in range(query.shape[1]):
            family, member = divmod(g * query.shape[1] + n, members)
            own = np.asarray(sight.columns)[family, member]  # [B, S]
            where = np.concatenate([np.arange(P), np.tile(np.asarray(sight.column_positions)[family], members)])
            allowed = np.concatenate([np.arange(P) < sight.prefix_lengths[g], own.ravel()])
            if window is not None:
                allowed &= int(sight.positions[g, n]) - where < window
            for h in range(2 * K):
                k = h // 2
                keys, values = (
                    np.concatenate([np.asarray(_exact(a)[g, k]), np.asarray(_exact(b)[family, k]).reshape(-1, C)])
                    for a, b in zip(prefix, suffix, strict=True)
                )
                scores = np.where(allowed, keys @ np.asarray(query[g, n, h]) * 0.3, -np.inf)
                out[g, n, h] = np.asarray(jax.nn.softmax(scores)) @ values
    return out


def _exact(stored):  # type: ignore[no-untyped-def]
    return stored.values if stored.scales is None else stored.values * stored.scales[..., None]


@pytest.mark.parametrize("window", [None, 9, 150])
@pytest.mark.parametrize(("branches", "together"), [(1, False), (3, False), (3, True)])
def test_equals_plain_attention(branches: int, together: bool, window: int | None) -> None:
    arguments = case(branches, branches, together)
    found = jax.jit(lambda *a: cached_attention(*a, scale=0.3, window=window))(*arguments)
    np.testing.assert_allclose(found, plain(*arguments, window), atol=1e-5, rtol=0)


def test_int8_equals_its_own_values_and_nearly_the_exact_ones() -> None:
    arguments = case(7, 3, False, "int8")
    found = cached_attention(*arguments, scale=0.3, window=None)
    np.testing.assert_allclose(found, plain(*arguments, None), atol=1e-5, rtol=0)
    exact = cached_attention(*case(7, 3, False), scale=0.3, window=None)
    np.testing.assert_allclose(found, exact, atol=0.03, rtol=0)
    assert np.abs(found - exact).max() > 1e-4


def test_what_lies_behind_adds_nothing_at_all() -> None:
    """Reading more columns than a branch has does not change a bit of it."""
    query, prefix, suffix, sight = case(1, 3, False)
    few = sight._replace(columns=sight.columns & (jnp.arange(S) < 100), used=jnp.array(100))
    short = jax.jit(lambda s: cached_attention(query, prefix, suffix, s, scale=0.3, window=None))
    np.testing.assert_array_equal(short(few), short(few._replace(used=jnp.array(S))))


def test_zeros_are_stored_as_zeros() -> None:
    stored = store(jnp.zeros((2, 3)), "int8")
    assert not np.asarray(_exact(stored)).any()
