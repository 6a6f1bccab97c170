"""Samples of prompts, token by token: every prompt has N branches, and each writes one sample after the other.

A branch that finishes its sample takes the prompt's next one at once, so a long answer holds up nobody. Arrays are
int32 unless said otherwise; G prompts, N branches, M samples of a prompt, S columns for an answer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlaifv_jax.ops.cached import Sight
from rlaifv_jax.sampling.cache import Prompts
from rlaifv_jax.sampling.choose import adjust, draw, is_end, uniforms
from rlaifv_jax.sampling.settings import Rules, Sampling


class Branches(NamedTuple):
    token: jax.Array  # [G, N] the newest token of every branch
    sample: jax.Array  # [G, N] which sample the branch writes, M: none
    length: jax.Array  # [G, N] its tokens so far
    started: jax.Array  # [G] samples that have been started
    tokens: jax.Array  # [G, M, S] all samples
    lengths: jax.Array  # [G, M] of finished samples, end token included; 0 before
    seen: jax.Array | None  # bool[G, N, V] tokens said before, where they are penalised

    @classmethod
    def new(cls, prompts: int, branches: int, samples: int, columns: int, vocabulary: int, seen: bool) -> "Branches":
        """No prompt in any slot."""

        def zeros(*shape: int) -> jax.Array:
            return jnp.zeros(shape, jnp.int32)

        return cls(
            token=zeros(prompts, branches),
            sample=jnp.full((prompts, branches), samples, jnp.int32),
            length=zeros(prompts, branches),
            started=zeros(prompts),
            tokens=zeros(prompts, samples, columns),
            lengths=zeros(prompts, samples),
            seen=jnp.zeros((prompts, branches, vocabulary), bool) if seen else None,
        )

    def start(self, slots: jax.Array, said: jax.Array | None) -> "Branches":
        """New prompts in `slots` [r]. said: bool[r, V], what their samples begin with."""
        branches, samples = self.token.shape[1], self.tokens.shape[1]

        def put(old: jax.Array, new: jax.Array | int) -> jax.Array:
            return old.at[slots].set(new, mode="drop")

        return self._replace(
            sample=put(self.sample, jnp.minimum(jnp.arange(branches), samples)),
            length=put(self.length, 0),
            started=put(self.started, min(branches, samples)),
            lengths=put(self.lengths, 0),
            seen=None if self.seen is None or said is None else put(self.seen, said[:, None]),
        )

    @property
    def live(self) -> jax.Array:
        """bool[G, N]"""
        return self.sample < self.tokens.shape[1]

    @property
    def running(self) -> jax.Array:
        """bool[G]: prompts with samples to come."""
        return self.live.any(axis=1)

    @property
    def columns(self) -> jax.Array:
        """[G·N]: where the newest token's key and value go."""
        return jnp.maximum(self.length - 1, 0).reshape(-1)

    def sight(self, prefix_lengths: jax.Array) -> Sight:
        """What the newest tokens see."""
        places = jnp.arange(self.tokens.shape[2])
        positions = prefix_lengths[:, None] + jnp.maximum(self.length - 1, 0)
        own = places <= self.columns[:, None]  # [G·N, S]
        first = jnp.broadcast_to(prefix_lengths[:, None], self.length.shape).reshape(-1, 1)
        return Sight(prefix_lengths, positions, own[:, None, None], first + places, jnp.max(self.length))

    def pick(self, scores: jax.Array, prompts: Prompts, rules: Rules, *, entering: bool) -> "Branches":
        """Choose every branch's next token; a finished branch starts on its prompt's next sample.

        Args:
          scores: float32[G, N, V] logits behind the newest tokens.
          entering: only branches without any token choose.
        """
        scores = adjust(self.behind(scores, prompts), self.seen, self.length, rules)
        chosen = _choose(scores, prompts.keys, self, rules.settings)
        return self.say(chosen, prompts, rules.ends, rules.settings.max_new_tokens, entering=entering)

    def behind(self, scores: jax.Array, prompts: Prompts) -> jax.Array:
        """`scores`, where there are newest tokens, and those behind the prompt where there are none."""
        starting = self.live & (self.length == 0)
        return jnp.where(starting[..., None], prompts.first[:, None], scores)

    def chooses(self, *, entering: bool) -> jax.Array:
        """bool[G, N]: branches that choose a token, see `pick`."""
        return self.live & (self.length == 0) if entering else self.live

    def say(
        self, chosen: jax.Array, prompts: Prompts, ends: tuple[int, ...], most: jax.Array | int, *, entering: bool
    ) -> "Branches":
        """Write the tokens int32[G, N], see `pick`. most: tokens of a sample, for all or each of the branches."""
        chooses = self.chooses(entering=entering)
        token = jnp.where(chooses, chosen, self.token)
        prompt = jnp.arange(token.shape[0])[:, None]
        sample = jnp.where(chooses, self.sample, self.tokens.shape[1])  # out of range: written nowhere
        length = self.length + chooses
        ended = chooses & (is_end(token, ends) | (length >= most))
        state = self._replace(
            token=token,
            length=length,
            tokens=self.tokens.at[prompt, sample, self.length].set(token, mode="drop"),
            seen=self._remember(token, chooses),
        )
        return state.finish(ended, prompts.said)

    def finish(self, ended: jax.Array, said: jax.Array | None) -> "Branches":
        """Close the samples of the branches `ended` bool[G, N]; these go on with samples that nobody has started."""
        prompt, samples = jnp.arange(ended.shape[0])[:, None], self.tokens.shape[1]
        closed = jnp.where(ended, self.sample, samples)
        following = self.started[:, None] + jnp.cumsum(ended, axis=1) - 1
        seen = self.seen
        if seen is not None and said is not None:
            seen = jnp.where(ended[..., None], said[:, None], seen)
        return self._replace(
            sample=jnp.where(ended, jnp.minimum(following, samples), self.sample),
            length=jnp.where(ended, 0, self.length),
            started=jnp.minimum(self.started + ended.sum(axis=1), samples),
            lengths=self.lengths.at[prompt, closed].set(self.length, mode="drop"),
            seen=seen,
        )

    def _remember(self, token: jax.Array, chooses: jax.Array) -> jax.Array | None:
        if self.seen is None:
            return None
        prompt, branch = jnp.indices(token.shape)
        return self.seen.at[prompt, branch, jnp.where(chooses, token, self.seen.shape[-1])].set(True, mode="drop")


def _choose(scores: jax.Array, keys: jax.Array, branches: Branches, settings: Sampling) -> jax.Array:
    if not settings.draws:
        return jnp.argmax(scores, axis=-1).astype(jnp.int32)
    return draw(scores, settings, uniforms(keys, branches.sample, branches.length))
