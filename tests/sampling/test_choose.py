"""Cut-offs against transformers' classes, and draws against their distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlaifv_jax.ops.top import top
from rlaifv_jax.sampling.choose import adjust, cut, draw, gumbels, invert, uniforms
from rlaifv_jax.sampling.settings import Rules, Sampling

CHI_SQUARE = {4: 18.47, 9: 27.88, 299: 379.3}  # exceeded once in a thousand times, by degrees of freedom


def statistic(found: np.ndarray, chances: np.ndarray) -> float:
    counts = np.bincount(found.ravel(), minlength=len(chances))
    assert (counts[chances == 0] == 0).all()
    expected = chances[chances > 0] * found.size
    return float(((counts[chances > 0] - expected) ** 2 / expected).sum())


@pytest.mark.parametrize(("size", "prompts"), [(10, 20), (300, 60)])
def test_draws_have_the_distribution(size: int, prompts: int) -> None:
    """χ² over prompts, samples and places, each of which has a lot of its own."""
    scores = jax.random.normal(jax.random.key(size), (size,)) * (2 if size == 10 else 0.3)
    keys = jax.random.bits(jax.random.key(1), (prompts, 2), jnp.uint32)
    samples, places = (x.ravel() for x in jnp.meshgrid(jnp.arange(20), jnp.arange(50)))
    everywhere = uniforms(keys, *(jnp.broadcast_to(x, (prompts, len(x))) for x in (samples, places)))
    assert len(jnp.unique(everywhere)) > 0.99 * everywhere.size
    found = np.asarray(invert(jnp.broadcast_to(scores, (*everywhere.shape, size)), everywhere))
    assert statistic(found, np.asarray(jax.nn.softmax(scores), np.float64)) < CHI_SQUARE[size - 1]


@pytest.mark.parametrize("wanted", [Sampling(1.0, 5, 0.95), Sampling(1.0, 0, 0.95), Sampling(1.0, 5)])
def test_draws_after_cuts(wanted: Sampling) -> None:
    scores = jnp.log(jnp.array([0.02, 0.3, 0.08, 0.25, 0.2, 0.15]))
    chances = np.array([0, 0.3, 0.08, 0.25, 0.2, 0.15]) / 0.98
    random = jax.random.uniform(jax.random.key(0), (20000,))
    found = np.asarray(draw(jnp.broadcast_to(scores, (20000, 6)), wanted, random))
    assert statistic(found, chances) < CHI_SQUARE[4]


def test_beams_are_drawn_without_replacement() -> None:
    """First of two draws by Gumbel noise: softmax; the pair: as drawing one after the other."""
    chances = np.array([0.4, 0.3, 0.2, 0.07, 0.03])
    keys = jax.random.bits(jax.random.key(2), (30000, 2), jnp.uint32)
    noise = gumbels(keys, jnp.zeros(30000, jnp.int32), (5,))
    _, places = top(jnp.log(jnp.asarray(chances)) + noise, 2)
    assert statistic(np.asarray(places[:, 0]), chances) < CHI_SQUARE[4]
    second = sum(np.where(np.arange(5) == first, 0, p * chances / (1 - p)) for first, p in enumerate(chances))
    assert statistic(np.asarray(places[:, 1]), second) < CHI_SQUARE[4]


def test_the_last_token_can_be_drawn_and_none_behind_it() -> None:
    for size in (1, 127, 128, 129, 576):
        largest = jnp.float32(np.nextafter(np.float32(1), np.float32(0)))
        scores = jnp.zeros(size)
        assert int(invert(scores, largest)) == size - 1
        assert int(invert(scores.at[-1].set(-jnp.inf), largest)) == max(size - 2, 0) or size == 1
        assert int(invert(scores, jnp.float32(0))) == 0


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    top_k=st.sampled_from([0, 1, 3, 20, 500]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    at_least=st.integers(1, 3),
)
def test_cuts_equal_transformers(seed: int, top_k: int, top_p: float, temperature: float, at_least: int) -> None:
    torch = pytest.importorskip("torch")
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    scores = 3 * np.random.default_rng(seed).normal(size=(2, 60)).astype(np.float32)
    expected = TemperatureLogitsWarper(temperature)(None, torch.from_numpy(scores))
    if top_k:
        expected = TopKLogitsWarper(top_k, min_tokens_to_keep=at_least)(None, expected)
    if top_p < 1:
        expected = TopPLogitsWarper(top_p, min_tokens_to_keep=at_least)(None, expected)
    wanted = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    found = np.asarray(cut(jnp.asarray(scores), wanted, at_least))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-6)


def test_penalties_equal_transformers() -> None:
    torch = pytest.importorskip("torch")
    from transformers import MinNewTokensLengthLogitsProcessor, RepetitionPenaltyLogitsProcessor

    scores = np.random.default_rng(0).normal(size=(2, 30)).astype(np.float32)
    said = np.array([[1, 4, 4, 9], [2, 7, 1, 29]])
    seen = np.zeros((2, 30), bool)
    np.put_along_axis(seen, said, True, axis=1)
    expected = RepetitionPenaltyLogitsProcessor(1.3)(torch.from_numpy(said), torch.from_numpy(scores.copy()))
    expected = MinNewTokensLengthLogitsProcessor(1, 4, torch.tensor([2, 5]))(torch.from_numpy(said), expected)
    wanted = Sampling(repetition_penalty=1.3, min_new_tokens=4)
    found = adjust(jnp.asarray(scores), jnp.asarray(seen), jnp.array([3, 3]), Rules(wanted, (2, 5)))
    np.testing.assert_allclose(np.asarray(found), expected.numpy(), rtol=1e-6)
    late = adjust(jnp.asarray(scores), None, jnp.array([4, 3]), Rules(wanted, (2, 5)))
    assert np.isfinite(late[0]).all()
    assert np.isinf(late[1]).sum() == 2


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 6000), k=st.integers(1, 60), ties=st.booleans())
def test_top_equals_sorting(seed: int, count: int, k: int, ties: bool) -> None:
    values = np.random.default_rng(seed).normal(size=(2, count)).astype(np.float32)
    values = jnp.asarray(np.round(values) if ties else values)
    for found, expected in zip(top(values, min(k, count)), jax.lax.top_k(values, min(k, count)), strict=True):
        np.testing.assert_array_equal(found, expected)
