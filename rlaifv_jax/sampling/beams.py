"""Beam search and beam sampling, as `GenerationMixin._beam_search` of transformers 5 does them.

G prompts, B beams, S columns for an answer. A beam that continues another one copies no keys and values: a table says
in whose columns its past stands.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rlaifv_jax.ops.cached import Sight
from rlaifv_jax.ops.top import top
from rlaifv_jax.sampling.cache import Prompts
from rlaifv_jax.sampling.choose import adjust, cut, gumbels, is_end
from rlaifv_jax.sampling.settings import Rules, Sampling

NEVER = -1e9  # added to scores that shall not be chosen; a large number, as there, so that ties fall alike


class Beams(NamedTuple):
    token: jax.Array  # int32[G, B] the newest token of every beam
    length: jax.Array  # int32[G] tokens of the running beams
    running: jax.Array  # bool[G]
    scores: jax.Array  # float32[G, B] sums of log-probabilities
    sequences: jax.Array  # int32[G, B, S]
    holders: jax.Array  # int32[G, B, S] the branch whose suffix holds a beam's column
    done: jax.Array  # bool[G, B] whether the finished sequence is there
    tokens: jax.Array  # int32[G, B, S] finished sequences, best first
    lengths: jax.Array  # int32[G, B] theirs, end token included
    done_scores: jax.Array  # float32[G, B] with length penalty
    improvable: jax.Array  # bool[G]
    seen: jax.Array | None  # bool[G, B, V] tokens said before, where they are penalised

    @classmethod
    def new(cls, prompts: int, beams: int, columns: int, vocabulary: int, seen: bool) -> "Beams":
        """No prompt in any slot."""
        table = jnp.zeros((prompts, beams, columns), jnp.int32)
        each = jnp.zeros((prompts, beams), jnp.int32)
        return cls(
            token=each,
            length=each[:, 0],
            running=each[:, 0] > 0,
            scores=each.astype(jnp.float32),
            sequences=table,
            holders=table,
            done=each > 0,
            tokens=table,
            lengths=each,
            done_scores=each.astype(jnp.float32),
            improvable=each[:, 0] > 0,
            seen=jnp.zeros((prompts, beams, vocabulary), bool) if seen else None,
        )

    def start(self, slots: jax.Array, said: jax.Array | None) -> "Beams":
        """New prompts in `slots` [r]. said: bool[r, V], what their beams begin with."""
        beams = self.token.shape[1]

        def put(old: jax.Array, new: Any) -> jax.Array:
            return old.at[slots].set(new, mode="drop")

        return self._replace(
            length=put(self.length, 0),
            running=put(self.running, True),
            scores=put(self.scores, jnp.where(jnp.arange(beams) == 0, 0.0, NEVER)),  # all beams are equal yet
            done=put(self.done, False),
            lengths=put(self.lengths, 0),
            done_scores=put(self.done_scores, NEVER),
            improvable=put(self.improvable, True),
            seen=None if self.seen is None or said is None else put(self.seen, said[:, None]),
        )

    @property
    def columns(self) -> jax.Array:
        """int32[G]: where the newest tokens' keys and values go."""
        return jnp.maximum(self.length - 1, 0)

    def sight(self, prefix_lengths: jax.Array) -> Sight:
        """What the newest tokens see: their beam's past, in whoever's columns it stands."""
        places = jnp.arange(self.sequences.shape[2])
        beams = jnp.arange(self.token.shape[1])
        past = places <= self.columns[:, None]  # [G, S]
        seen = (self.holders[:, :, None] == beams[:, None]) & past[:, None, None]  # [G, B, B, S]
        positions = jnp.broadcast_to((prefix_lengths + self.columns)[:, None], self.token.shape)
        return Sight(
            prefix_lengths, positions, seen, prefix_lengths[:, None] + places, jnp.max(self.length * self.running)
        )

    def pick(self, scores: jax.Array, prompts: Prompts, rules: Rules, *, entering: bool) -> "Beams":
        """One step of the search.

        Args: as `Branches.pick`.
        """
        settings = rules.settings
        beams, vocabulary = self.token.shape[1], scores.shape[-1]
        starting = self.running & (self.length == 0)
        scores = jnp.where(starting[:, None, None], prompts.first[:, None], scores)
        length = jnp.broadcast_to(self.length[:, None], self.token.shape)
        scores = adjust(jax.nn.log_softmax(scores, axis=-1), self.seen, length, rules)
        if settings.draws:
            scores = cut(scores, settings, at_least=rules.ending + 1)
        scores = scores + self.scores[..., None]

        # ---- continuations: enough that num_beams of them do not end
        many = max(2, 1 + rules.ending) * beams
        total = scores.reshape(len(scores), beams * vocabulary)
        if settings.draws:  # without replacement: the largest of scores with Gumbel noise (arXiv 1903.06059)
            _, places = top(total + gumbels(prompts.keys, self.length, total.shape[1:]), many)
        else:
            _, places = top(total, many)
        best = jnp.take_along_axis(total, places, axis=1)  # [G, many]
        parents, tokens = places // vocabulary, (places % vocabulary).astype(jnp.int32)
        column = jnp.arange(self.sequences.shape[2]) == self.length[:, None, None]  # [G, 1, S]
        sequences = jnp.where(column, tokens[..., None], _of(self.sequences, parents))
        ended = is_end(tokens, rules.ends) | (self.length + 1 >= settings.max_new_tokens)[:, None]
        ended |= _closed(sequences, self.length + 1, rules)

        # ---- those that go on
        alive = best + NEVER * ended
        _, order = top(alive, beams)
        parent = jnp.take_along_axis(parents, order, axis=1)
        holders = jnp.where(column, jnp.arange(beams)[:, None], _of(self.holders, parent))
        token = jnp.take_along_axis(tokens, order, axis=1)
        after = self._replace(
            token=token,
            length=self.length + 1,
            scores=jnp.take_along_axis(alive, order, axis=1),
            sequences=_of(sequences, order),
            holders=holders,
            seen=None if self.seen is None else _remember(_of(self.seen, parent), token),
        )
        after = after._collect(best, sequences, ended, settings)
        chooses = starting if entering else self.running
        return jax.tree.map(
            lambda new, old: jnp.where(chooses.reshape(-1, *(1,) * (new.ndim - 1)), new, old), after, self
        )

    def _collect(self, best: jax.Array, sequences: jax.Array, ended: jax.Array, settings: Sampling) -> "Beams":
        """Put finished continuations among the finished sequences, and see whether the search goes on."""
        beams, length = self.token.shape[1], self.length.astype(jnp.float32)
        early = settings.early_stopping is True
        just = ended & (jnp.arange(ended.shape[1]) < beams)  # the rest only stands in for ended ones
        scores = best / length[:, None] ** settings.length_penalty
        closed = (self.done.all(axis=1) & early) | ~self.improvable
        scores = scores + NEVER * closed[:, None] + NEVER * ~just
        done_scores, order = top(jnp.concatenate([self.done_scores, scores], axis=1), beams)

        def merge(old: jax.Array, new: jax.Array) -> jax.Array:
            return _of(jnp.concatenate([old, new], axis=1), order)

        done = merge(self.done, just)
        reach = length
        if settings.early_stopping == "never" and settings.length_penalty > 0:
            reach = jnp.full_like(length, settings.max_new_tokens)
        possible = self.scores[:, :1] / reach[:, None] ** settings.length_penalty
        worst = jnp.where(done, done_scores.min(axis=1, keepdims=True), NEVER)
        improvable = self.improvable & (possible > worst).any(axis=1)
        return self._replace(
            done=done,
            tokens=merge(self.tokens, sequences),
            lengths=merge(self.lengths, jnp.broadcast_to(self.length[:, None], ended.shape)),
            done_scores=done_scores,
            improvable=improvable,
            running=improvable & ~(done.all(axis=1) & early) & ~ended.all(axis=1),
        )


def _of(values: jax.Array, places: jax.Array) -> jax.Array:
    """values[g, places[g, i], …]: [G, I, …]"""
    return jnp.take_along_axis(values, places.reshape(*places.shape, *(1,) * (values.ndim - 2)), axis=1)


def _closed(sequences: jax.Array, length: jax.Array, rules: Rules) -> jax.Array:
    """bool[G, I]: whether `closing` has just been written. sequences: int32[G, I, S] of `length` [G] tokens."""
    wanted, least = rules.closing, max(len(rules.closing), rules.settings.min_new_tokens)
    if not wanted:
        return jnp.zeros(sequences.shape[:2], bool)
    columns = jnp.maximum(length[:, None] - len(wanted) + jnp.arange(len(wanted)), 0)  # [G, closing]
    newest = jnp.take_along_axis(sequences, columns[:, None], axis=2)
    return (newest == jnp.array(wanted)).all(axis=2) & (length >= least)[:, None]


def _remember(seen: jax.Array, token: jax.Array) -> jax.Array:
    prompt, beam = jnp.indices(token.shape)
    return seen.at[prompt, beam, token].set(True)
