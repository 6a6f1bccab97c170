"""The functions of generation that are compiled: `admit` computes prompts, `advance` decodes until the host is needed.
`compute` and `hold` are the two halves of `admit`, for who keeps prompts outside of slots (rlaifv_jax.serving).

No file and no config object: the engine, an ahead-of-time compile and a test call the same functions.

    G prompts in the cache   N branches of each   r prompts admitted at once   V vocabulary
"""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

from rlaifv_jax import parallel
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.models.blueprint import Params, unstacked_module
from rlaifv_jax.models.decoder import Attend, DecoderConfig
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.ops.attention import cached_attention
from rlaifv_jax.ops.cached import Cached, Sight
from rlaifv_jax.ops.layout import Layout
from rlaifv_jax.sampling.beams import Beams
from rlaifv_jax.sampling.branches import Branches
from rlaifv_jax.sampling.cache import Cache, CacheShape, Prompts, new_cache, new_prefix, put_prefix, put_suffix
from rlaifv_jax.sampling.settings import Rules


@dataclass(frozen=True)
class Program:
    """Everything static about a generation; equal programs are compiled once.

    graph, decoder: of the model. samples: M of every prompt. begin: id of BOS, None where there is none. cache: shape.
    """

    graph: Any
    decoder: DecoderConfig
    compute: Compute
    rules: Rules
    samples: int
    begin: int | None
    cache: CacheShape


class State(NamedTuple):
    cache: Cache
    prompts: Prompts
    search: Any  # Branches, Beams, or the Seats of rlaifv_jax.serving
    steps: jax.Array  # int32[] steps of decoding so far, for the account


class Computed(NamedTuple):
    """r prompts that no slot holds yet. layers: keys and values [r, K, P, C] of each. The rest as `Prompts`."""

    layers: list[Cached]
    lengths: jax.Array
    first: jax.Array
    said: jax.Array | None


def new_state(program: Program) -> State:
    """Empty slots."""
    shape, settings, vocabulary = program.cache, program.rules.settings, program.decoder.vocab_size
    prompts = Prompts(
        lengths=jnp.zeros(shape.prompts, jnp.int32),
        first=jnp.zeros((shape.prompts, vocabulary), jnp.float32),
        keys=jnp.zeros((shape.prompts, 2), jnp.uint32),
        said=jnp.zeros((shape.prompts, vocabulary), bool) if settings.penalises else None,
    )
    sizes = (shape.suffix, vocabulary, settings.penalises)
    search: Branches | Beams
    if settings.num_beams > 1:
        search = Beams.new(shape.prompts, settings.num_beams, *sizes)
    else:
        search = Branches.new(shape.prompts, shape.branches, program.samples, *sizes)
    return State(new_cache(program.decoder, shape), prompts, search, jnp.zeros((), jnp.int32))


def state_shardings(program: Program, mesh: Mesh) -> State:
    """Where `new_state` lies, see `shardings`."""
    return shardings(jax.eval_shape(partial(new_state, program=program)), mesh)


def shardings(state: State, mesh: Mesh) -> State:
    """Prompts and branches lie over the mesh as rows do, cached heads as heads. state: shapes."""

    def place(leaf: Any, *names: str) -> NamedSharding:
        axes = (*names, *(None,) * leaf.ndim)[: leaf.ndim]
        return NamedSharding(mesh, parallel.spec(axes, leaf.shape, mesh))

    cache, *rest = state
    return State(
        jax.tree.map(lambda leaf: place(leaf, "batch", "heads"), cache),
        *jax.tree.map(lambda leaf: place(leaf, "batch"), tuple(rest)),
    )


class Functions(NamedTuple):
    """`new_state`, `admit` and `advance` of one program, jitted for one mesh; the last two take over the state."""

    new_state: Any
    admit: Any
    advance: Any


@lru_cache(maxsize=16)  # of which each takes tens of MB
def jitted(program: Program, mesh: Mesh) -> Functions:
    """Equal programs share what is compiled. Call and lower them within `jax.set_mesh(mesh)`."""
    where = state_shardings(program, mesh)
    on_mesh = partial(jax.jit, out_shardings=where)
    return Functions(
        on_mesh(partial(new_state, program=program)),
        on_mesh(partial(admit, program=program), donate_argnums=1),
        on_mesh(partial(advance, program=program), donate_argnums=1),
    )


def admit(params: Params, state: State, batch: Batch, slots: jax.Array, keys: jax.Array, *, program: Program) -> State:
    """Compute prompts and put them into slots.

    Args:
      params: `unstack`ed weights.
      batch: [r, P] rows, each a prompt from its first position on; only what says the prompt is looked at: all but
        sources and what follows them.
      slots: int32[r], each free; out of range for a row of padding.
      keys: uint32[r, 2], see `choose.uniforms`.
    """
    state, said = hold(state, compute(params, batch, program=program), slots, keys)
    return state._replace(search=state.search.start(slots, said))


def hold(state: State, computed: Computed, slots: jax.Array, keys: jax.Array) -> tuple[State, jax.Array | None]:
    """Put prompts into slots; nothing is said behind them yet. slots, keys: as `admit`. Also returns their `said`."""
    layers, lengths, first, said = computed
    prompts = jax.tree.map(
        lambda old, new: old.at[slots].set(new, mode="drop"), state.prompts, Prompts(lengths, first, keys, said)
    )
    prefix = [put_prefix(old, new, slots) for old, new in zip(state.cache.prefix, layers, strict=True)]
    return state._replace(cache=state.cache._replace(prefix=prefix), prompts=prompts), said


def compute(params: Params, batch: Batch, *, program: Program) -> Computed:
    """Prompts through the model. params, batch: as `admit`."""
    model, layers = unstacked_module(program.graph, params)
    layout = Layout(batch.segments, batch.branches, batch.positions)
    attend = model.decoder.attention(layout, program.compute)
    prefix: list[Cached] = []

    def attend_and_keep(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
        prefix.append(new_prefix(key, value, program.cache.dtype))
        return attend(query, key, value)

    attends: list[Attend] = [attend_and_keep] * len(layers)
    hidden = model.decoder.step(layers, model.embed(batch, program.compute), layout.positions, attends)
    lengths = (batch.segments > 0).sum(axis=1)
    last = jnp.take_along_axis(hidden, jnp.maximum(lengths - 1, 0)[:, None, None], axis=1)[:, 0]
    said = _said(batch, program) if program.rules.settings.penalises else None
    return Computed(prefix, lengths, model.decoder.logits(last), said)


def _said(batch: Batch, program: Program) -> jax.Array:
    """bool[r, V]: BOS, and with `penalize_prompt` the prompt's text."""
    rows, vocabulary = batch.tokens.shape[0], program.decoder.vocab_size
    said = jnp.zeros((rows, vocabulary), bool)
    if program.rules.settings.penalize_prompt:
        text = (batch.segments > 0) & (batch.patches < 0)
        tokens = jnp.where(text, batch.tokens, vocabulary)
        said = said.at[jnp.arange(rows)[:, None], tokens].set(True, mode="drop")
    return said if program.begin is None else said.at[:, program.begin].set(True)


def advance(
    params: Params, state: State, stopped: jax.Array, most: jax.Array, wanted: jax.Array, *, program: Program
) -> State:
    """Decode until nothing runs, `wanted` prompts have finished, or `most` steps are done.

    Args:
      stopped: bool[G, N], branches whose samples end here (stop strings, which only the host can read). With beams
        nothing can be stopped, and this is ignored.
      most, wanted: int32[].
    """
    model, layers = unstacked_module(program.graph, params)

    def pick(state: State, logits: jax.Array, *, entering: bool) -> State:
        return state._replace(search=state.search.pick(logits, state.prompts, program.rules, entering=entering))

    search = state.search
    if not isinstance(search, Beams):
        search = search.finish(stopped & search.live & (search.length > 0), state.prompts.said)
    vocabulary = program.decoder.vocab_size
    nothing = jnp.zeros((*search.token.shape, vocabulary), jnp.float32)
    before = search.running
    state = pick(state._replace(search=search), nothing, entering=True)

    def going(carry: tuple[jax.Array, State]) -> jax.Array:
        done, state = carry
        running = state.search.running
        return running.any() & (jnp.sum(before & ~running) < wanted) & (done < most)

    def step(carry: tuple[jax.Array, State]) -> tuple[jax.Array, State]:
        done, state = carry
        logits, suffix = _forward(model, layers, state, program)
        state = state._replace(cache=state.cache._replace(suffix=suffix), steps=state.steps + 1)
        return done + 1, pick(state, logits, entering=False)

    return jax.lax.while_loop(going, step, (jnp.zeros((), jnp.int32), state))[1]


def _forward(model: Any, layers: list[Any], state: State, program: Program) -> tuple[jax.Array, list[Any]]:
    """The newest tokens through the decoder: float32[G, N, V] logits, and the suffixes with their keys and values."""
    config, search = program.decoder, state.search
    sight: Sight = search.sight(state.prompts.lengths)
    suffixes = list(state.cache.suffix)

    def attend_in(number: int) -> Attend:
        def attend(query: jax.Array, key: jax.Array, value: jax.Array) -> jax.Array:
            suffixes[number] = put_suffix(suffixes[number], key, value, search.columns)
            return cached_attention(
                query,
                state.cache.prefix[number],
                suffixes[number],
                sight,
                scale=config.head_width**-0.5,
                window=config.window,
            )

        return attend

    attends = [attend_in(number) for number in range(len(layers))]
    hidden = model.decoder.step(layers, model.decoder.embed(search.token), sight.positions, attends)
    return model.decoder.logits(hidden), suffixes
