"""From the scores of all tokens to a token: penalties, cut-offs, draws. Each equals a class of transformers' logits
processors, in the order in which `generate` applies them.

Scores are float32[..., V], logits or (with beams) log-probabilities.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rlaifv_jax.ops.top import top
from rlaifv_jax.sampling.settings import Rules, Sampling

BLOCK = 128  # tokens; a draw is among blocks first


def adjust(scores: jax.Array, seen: jax.Array | None, length: jax.Array, rules: Rules) -> jax.Array:
    """Repetition penalty, and no end before `min_new_tokens`.

    Args:
      seen: bool[..., V], tokens said before; None without a penalty.
      length: int32[...], tokens of the answer so far.
    """
    settings, ends = rules.settings, rules.ends
    if seen is not None:
        scores = penalise(scores, seen, settings.repetition_penalty)
    if settings.min_new_tokens and ends:
        scores = without_ends(scores, length < settings.min_new_tokens, ends)
    return scores


def penalise(scores: jax.Array, seen: jax.Array, penalty: jax.Array | float) -> jax.Array:
    """Scores with those of tokens `seen` made smaller. penalty: one, or one for each row."""
    return jnp.where(seen, jnp.where(scores < 0, scores * penalty, scores / penalty), scores)


def without_ends(scores: jax.Array, early: jax.Array, ends: tuple[int, ...]) -> jax.Array:
    """Scores of which no end token can be chosen in the rows `early` bool[...]."""
    end = jnp.zeros(scores.shape[-1], bool).at[jnp.array(ends)].set(True)
    return jnp.where(early[..., None] & end, -jnp.inf, scores)


def cut(scores: jax.Array, settings: Sampling, at_least: int) -> jax.Array:
    """Temperature, top_k, top_p: -inf for tokens that are not drawn from; `at_least` so many stay."""
    if settings.top_k:
        best, _ = shortlist(scores, settings, at_least)
        least = jnp.min(jnp.where(jnp.isneginf(best), jnp.inf, best), axis=-1, keepdims=True)
        scores = scores / settings.temperature
        return jnp.where(scores < least, -jnp.inf, scores)
    scores = scores / settings.temperature
    if settings.top_p == 1:
        return scores
    chances = jax.nn.softmax(scores, axis=-1)
    least = greatest(chances, lambda kept: jnp.sum(jnp.where(kept, chances, 0), axis=-1) >= settings.top_p)
    least = jnp.minimum(least, top(chances, min(at_least, scores.shape[-1]))[0][..., -1:])
    return jnp.where(chances < least, -jnp.inf, scores)


def shortlist(scores: jax.Array, settings: Sampling, at_least: int) -> tuple[jax.Array, jax.Array]:
    """The k = max(top_k, at_least) best, descending: scores with temperature, -inf behind top_p; ids. [..., k]"""
    best, ids = top(scores, min(max(settings.top_k, at_least), scores.shape[-1]))
    best = best / settings.temperature
    if settings.top_p < 1:
        chances = jax.nn.softmax(best, axis=-1)
        above = jnp.cumsum(chances, axis=-1) - chances  # of all that are more likely
        kept = (above < settings.top_p) | (jnp.arange(best.shape[-1]) < at_least)
        best = jnp.where(kept, best, -jnp.inf)
    return best, ids


def greatest(values: jax.Array, enough: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """The greatest float32 t such that enough(values >= t): float32[..., 1] of values [..., V] that are not negative.

    Floats from 0 on are ordered like their bits, so t is found bit by bit, in 31 sums instead of a sort.
    """
    bits = jax.lax.bitcast_convert_type(values, jnp.int32)

    def try_bit(number: jax.Array, found: jax.Array) -> jax.Array:
        candidate = found | jnp.left_shift(1, 30 - number)
        return jnp.where(enough(bits >= candidate)[..., None], candidate, found)

    found = jax.lax.fori_loop(0, 31, try_bit, jnp.zeros((*values.shape[:-1], 1), jnp.int32))
    return jax.lax.bitcast_convert_type(found, jnp.float32)


def draw(scores: jax.Array, settings: Sampling, uniforms: jax.Array) -> jax.Array:
    """Tokens int32[...] of scores [..., V], by uniform numbers float32[...] in [0, 1)."""
    if not settings.top_k:
        return invert(cut(scores, settings, at_least=1), uniforms)
    best, ids = shortlist(scores, settings, at_least=1)
    return jnp.take_along_axis(ids, invert(best, uniforms)[..., None], axis=-1)[..., 0]


def invert(scores: jax.Array, uniforms: jax.Array) -> jax.Array:
    """Places int32[...] with probability softmax(scores), by inversion of their distribution."""
    chances = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    padding = -chances.shape[-1] % BLOCK
    chances = jnp.pad(chances, [(0, 0)] * (chances.ndim - 1) + [(0, padding)])
    chances = chances.reshape(*chances.shape[:-1], -1, BLOCK)
    sums = jnp.cumsum(chances.sum(-1), axis=-1)  # [..., blocks]
    wanted = (uniforms * sums[..., -1])[..., None]
    block = jnp.sum(sums <= wanted, axis=-1)[..., None]
    before = jnp.where(block > 0, jnp.take_along_axis(sums, jnp.maximum(block - 1, 0), axis=-1), 0)
    inside = jnp.take_along_axis(chances, block[..., None], axis=-2)[..., 0, :]
    place = jnp.sum(before + jnp.cumsum(inside, axis=-1) <= wanted, axis=-1)
    last = jnp.max(jnp.where(inside > 0, jnp.arange(BLOCK), 0), axis=-1)  # where rounding would run past it
    return (block[..., 0] * BLOCK + jnp.minimum(place, last)).astype(jnp.int32)


def uniforms(keys: jax.Array, sample: jax.Array, length: jax.Array) -> jax.Array:
    """float32[G, N] in [0, 1): a function of the prompt's key, the sample's number and the token's place.

    Args:
      keys: uint32[G, 2]. sample, length: int32[G, N].
    """
    return jax.vmap(jax.vmap(lambda key, *place: jax.random.uniform(_key(key, *place)), (None, 0, 0)))(
        keys, sample, length
    )


def gumbels(keys: jax.Array, length: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """float32[G, *shape] of standard Gumbel distribution, likewise. length: int32[G]."""
    return jax.vmap(lambda key, place: jax.random.gumbel(_key(key, 0, place), shape))(keys, length)


def _key(key: jax.Array, sample: jax.Array | int, place: jax.Array) -> jax.Array:
    key = jax.random.wrap_key_data(key, impl="threefry2x32")
    return jax.random.fold_in(jax.random.fold_in(key, sample), place)


def is_end(tokens: jax.Array, ends: tuple[int, ...]) -> jax.Array:
    """bool, of the shape of `tokens`."""
    return jnp.isin(tokens, jnp.array(ends, jnp.int32)) if ends else jnp.zeros(tokens.shape, bool)
