"""Answers of different requests side by side: the state of slots in which each has settings of its own.

A seat is a prompt's slot with one branch and one sample. Settings are arrays, so no request makes another program, and
rows never mix, so that an answer does not depend on its neighbours. G seats, S columns for an answer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlaifv_jax.ops.cached import Sight
from rlaifv_jax.ops.top import top
from rlaifv_jax.sampling.branches import Branches
from rlaifv_jax.sampling.cache import Prompts
from rlaifv_jax.sampling.choose import greatest, invert, penalise, uniforms, without_ends
from rlaifv_jax.sampling.settings import Rules

TOP = 20  # likeliest tokens that can be told, of OpenAI's protocol


class Settings(NamedTuple):
    """Arrays [G], named as in `Sampling`. tells: bool, whether log-probabilities are wanted."""

    temperature: jax.Array
    top_k: jax.Array
    top_p: jax.Array
    repetition_penalty: jax.Array
    min_new_tokens: jax.Array
    max_new_tokens: jax.Array
    tells: jax.Array

    @classmethod
    def new(cls, seats: int) -> "Settings":
        number, count = jnp.zeros(seats, jnp.float32), jnp.zeros(seats, jnp.int32)
        return cls(number, count, number + 1, number + 1, count, count + 1, count > 0)


class Seats(NamedTuple):
    """branches: of one sample each. logprobs: float32[G, S] of the tokens said, by the model's own distribution,
    whatever they are drawn from. top_tokens, top_logprobs: [G, S, TOP], the likeliest where wanted, best first."""

    branches: Branches
    settings: Settings
    logprobs: jax.Array
    top_tokens: jax.Array
    top_logprobs: jax.Array

    @classmethod
    def around(cls, branches: Branches) -> "Seats":
        """Nobody in any seat."""
        seats, _, columns = branches.tokens.shape
        likely = jnp.zeros((seats, columns, TOP), jnp.int32)
        return cls(branches, Settings.new(seats), jnp.zeros((seats, columns)), likely, likely.astype(jnp.float32))

    def start(self, slots: jax.Array, said: jax.Array | None, settings: Settings) -> "Seats":
        """New prompts in `slots` [r], with settings [r]."""
        held = jax.tree.map(lambda old, new: old.at[slots].set(new, mode="drop"), self.settings, settings)
        return self._replace(branches=self.branches.start(slots, said), settings=held)

    @property
    def token(self) -> jax.Array:
        return self.branches.token

    @property
    def length(self) -> jax.Array:
        return self.branches.length

    @property
    def live(self) -> jax.Array:
        return self.branches.live

    @property
    def running(self) -> jax.Array:
        return self.branches.running

    @property
    def columns(self) -> jax.Array:
        return self.branches.columns

    def sight(self, prefix_lengths: jax.Array) -> Sight:
        return self.branches.sight(prefix_lengths)

    def finish(self, ended: jax.Array, said: jax.Array | None) -> "Seats":
        return self._replace(branches=self.branches.finish(ended, said))

    def pick(self, scores: jax.Array, prompts: Prompts, rules: Rules, *, entering: bool) -> "Seats":
        """See `Branches.pick`. Of `rules` only the ends count."""
        branches, settings = self.branches, self.settings
        scores = branches.behind(scores, prompts)
        chosen = _choose(scores, branches, prompts.keys, settings, rules.ends)
        chooses = branches.chooses(entering=entering)[:, 0]
        told = self._tell(scores[:, 0], chosen[:, 0], chooses)
        most = settings.max_new_tokens[:, None]
        return told._replace(branches=branches.say(chosen, prompts, rules.ends, most, entering=entering))

    def _tell(self, scores: jax.Array, chosen: jax.Array, chooses: jax.Array) -> "Seats":
        """Keep log-probabilities of the tokens `chosen` [G], where they are wanted."""
        wanted = chooses & self.settings.tells

        def told() -> tuple[jax.Array, jax.Array, jax.Array]:
            logs = jax.nn.log_softmax(scores, axis=-1)
            best, ids = top(logs, min(TOP, logs.shape[-1]))
            missing = [(0, 0), (0, TOP - best.shape[-1])]
            own = jnp.take_along_axis(logs, chosen[:, None], axis=-1)[:, 0]
            return own, jnp.pad(ids, missing), jnp.pad(best, missing, constant_values=-jnp.inf)

        def nothing() -> tuple[jax.Array, jax.Array, jax.Array]:
            ids = jnp.zeros((len(scores), TOP), jnp.int32)
            return jnp.zeros(len(scores)), ids, ids.astype(jnp.float32)

        found = jax.lax.cond(wanted.any(), told, nothing)
        seat = jnp.where(wanted, jnp.arange(len(scores)), len(scores))  # out of range: kept nowhere
        column = self.branches.length[:, 0]
        kept = (self.logprobs, self.top_tokens, self.top_logprobs)
        put = [old.at[seat, column].set(new, mode="drop") for old, new in zip(kept, found, strict=True)]
        return self._replace(logprobs=put[0], top_tokens=put[1], top_logprobs=put[2])


def _choose(
    scores: jax.Array, branches: Branches, keys: jax.Array, settings: Settings, ends: tuple[int, ...]
) -> jax.Array:
    """int32[G, 1]: of logits [G, 1, V] a token by each seat's settings; in the order of choose.py."""
    if branches.seen is not None:
        scores = penalise(scores, branches.seen, settings.repetition_penalty[:, None, None])
    if ends:
        scores = without_ends(scores, branches.length < settings.min_new_tokens[:, None], ends)
    likeliest = jnp.argmax(scores, axis=-1).astype(jnp.int32)
    draws = (settings.temperature > 0)[:, None] & branches.live

    def drawn() -> jax.Array:
        heat = jnp.where(settings.temperature > 0, settings.temperature, 1)[:, None, None]
        cut = _cut(scores / heat, settings)
        return invert(cut, uniforms(keys, branches.sample, branches.length))

    return jnp.where(draws, jax.lax.cond(draws.any(), drawn, lambda: likeliest), likeliest)


def _cut(scores: jax.Array, settings: Settings) -> jax.Array:
    """Scores [G, 1, V] after temperature, -inf behind each seat's top_k and top_p."""
    some, share = settings.top_k[:, None], settings.top_p[:, None]

    def cut() -> jax.Array:
        chances = jax.nn.softmax(scores, axis=-1)
        among = greatest(chances, lambda kept: jnp.sum(kept, axis=-1) >= some)
        among = jnp.where(some[..., None] > 0, among, 0)
        best = jnp.where(chances >= among, chances, 0)
        enough = share * jnp.sum(best, axis=-1)
        least = greatest(best, lambda kept: jnp.sum(jnp.where(kept, best, 0), axis=-1) >= enough)
        least = jnp.where(share[..., None] < 1, least, 0)
        return jnp.where(chances >= jnp.maximum(among, least), scores, -jnp.inf)

    return jax.lax.cond(((settings.top_k > 0) | (settings.top_p < 1)).any(), cut, lambda: scores)
