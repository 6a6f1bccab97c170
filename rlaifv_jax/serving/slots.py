"""What the devices hold for a server: seats with prompts of up to P positions, and prompts on their way there."""

from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from rlaifv_jax import parallel
from rlaifv_jax.data.rows import Item, RowShape, build_rows
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.ops.attention import default_backend
from rlaifv_jax.sampling import decode
from rlaifv_jax.sampling.cache import CacheShape, suffix_columns
from rlaifv_jax.sampling.capacity import prompts_at_once, rung, slot_length
from rlaifv_jax.sampling.decode import Computed, Program, State
from rlaifv_jax.sampling.engine import GATHER
from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.settings import Rules, Sampling
from rlaifv_jax.serving.seats import Seats, Settings

MOST = 32  # seats where nobody says: more wait in the queue


class Seen(NamedTuple):
    """What has been said. running: bool[G]. lengths: int32[G]. tokens: int32[G, S]. logprobs, top_tokens, top_logprobs:
    as `Seats` has them, None where nobody wants them."""

    running: np.ndarray
    lengths: np.ndarray
    tokens: np.ndarray
    logprobs: np.ndarray | None = None
    top_tokens: np.ndarray | None = None
    top_logprobs: np.ndarray | None = None


class Slots:
    """Not safe to share between threads.

    Args:
      seats: G; 0: as many as there is memory for, at most MOST. longest_prompt: positions. new_tokens: of the longest
        answer. cache: dtype of keys and values; '': that of the weights.

    Raises:
      UserError: that is not possible on these devices.
    """

    def __init__(self, speaker: Speaker, *, seats: int, longest_prompt: int, new_tokens: int, cache: str):
        decoder = speaker.model.config.decoder
        self.params, self.mesh, self.tile = speaker.params, speaker.mesh, speaker.model.config.tile
        self.unit = parallel.rows_divisor(self.mesh)
        cache = cache or str(self.params["decoder"]["embedding"].dtype)
        shape = CacheShape(0, 1, False, slot_length(longest_prompt), suffix_columns(new_tokens), cache)
        fits = prompts_at_once(decoder, shape, self.mesh, self.params)
        if seats > fits and self.mesh.devices.flat[0].platform != "cpu":
            raise UserError(f"--slots is {seats}, and memory holds {fits}; ask for fewer, or an int8 --cache")
        self.count = -(-(seats or min(fits, MOST)) // self.unit) * self.unit
        backend = default_backend(self.mesh.devices.flat[0].platform)
        self.program = Program(
            graph=speaker.model.blueprint.graph,
            decoder=decoder,
            compute=Compute(backend, backend, "none", vocab_block=4096),
            # That tokens said before are kept, the prompt's too; how they count is each seat's own.
            rules=Rules(
                Sampling(repetition_penalty=2.0, penalize_prompt=True, max_new_tokens=new_tokens), speaker.ends
            ),
            samples=1,
            begin=speaker.tokenizer.bos_id,
            cache=replace(shape, prompts=self.count),
        )
        where = decode.shardings(jax.eval_shape(self._new_state), self.mesh)
        on_mesh = partial(jax.jit, out_shardings=where)
        alone = parallel.replicated(self.mesh)
        heads = NamedSharding(self.mesh, parallel.spec((None, "heads"), (1, decoder.kv_heads), self.mesh))
        self.functions = {
            "new_state": on_mesh(self._new_state),
            "compute": jax.jit(self._compute, out_shardings=Computed._make((heads, alone, alone, alone))),
            "place": on_mesh(_place, donate_argnums=0),
            "advance": on_mesh(partial(decode.advance, program=self.program), donate_argnums=1),
        }
        self.blank = jax.eval_shape(partial(Settings.new, 1))
        self.clear()

    def clear(self) -> None:
        """Empty all seats."""
        with jax.set_mesh(self.mesh):
            self.state: State = self.functions["new_state"]()

    def _new_state(self) -> State:
        state = decode.new_state(self.program)
        return state._replace(search=Seats.around(state.search))

    def _compute(self, params: Any, batch: Any) -> Computed:
        computed = decode.compute(params, batch, program=self.program)
        return jax.tree.map(lambda leaf: leaf[:1], computed)

    def compute(self, prompt: Prompt) -> Computed:
        """Keys and values of a prompt, in the shortest slot that holds it: its bits depend on nothing else."""
        shape = RowShape(slot_length(prompt.positions), 0, self.tile, images=rung(prompt.encoded.tiles))
        rows = [[Item(prompt.encoded, prompt.image)]] + [[]] * (self.unit - 1)
        with jax.set_mesh(self.mesh):
            batch = jax.device_put(build_rows(rows, shape), parallel.rows_sharding(self.mesh))
            return self.functions["compute"](self.params, batch)

    def place(self, computed: Computed, seat: int, key: np.ndarray, settings: Sampling, *, tells: bool) -> None:
        """A prompt takes a seat. key: uint32[2] of its draws. tells: log-probabilities."""
        given = Settings._make(getattr(settings, name, tells) for name in Settings._fields)
        asked = jax.tree.map(lambda value, old: np.array([value], old.dtype), given, self.blank)
        with jax.set_mesh(self.mesh):
            self.state = self.functions["place"](self.state, computed, np.array([seat], np.int32), key[None], asked)

    def advance(self, stopped: np.ndarray, most: int) -> None:
        """Up to `most` steps; fewer when some have finished. stopped: bool[G], whose answers end before them."""
        numbers = (jnp.asarray(value, jnp.int32) for value in (most, max(1, self.count // GATHER)))
        with jax.set_mesh(self.mesh):
            self.state = self.functions["advance"](self.params, self.state, stopped[:, None], *numbers)

    def look(self, *, tells: bool) -> Seen:
        """tells: with log-probabilities."""
        seats: Seats = self.state.search
        branches = seats.branches
        more = (seats.logprobs, seats.top_tokens, seats.top_logprobs) if tells else ()
        live, length, lengths, tokens, *told = jax.device_get(
            (branches.live, branches.length, branches.lengths, branches.tokens, *more)
        )
        return Seen(live[:, 0], np.where(live, length, lengths)[:, 0], tokens[:, 0], *told)


def _place(state: State, computed: Computed, slots: jax.Array, keys: jax.Array, settings: Settings) -> State:
    state, said = decode.hold(state, computed, slots, keys)
    return state._replace(search=state.search.start(slots, said, settings))
