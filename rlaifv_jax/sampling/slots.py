"""The slots of one prompt length: what the devices hold, and whose it is."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rlaifv_jax import parallel
from rlaifv_jax.data.rows import Item, RowShape, build_rows
from rlaifv_jax.data.tiles import Tile
from rlaifv_jax.models.blueprint import Params
from rlaifv_jax.sampling.branches import Branches
from rlaifv_jax.sampling.capacity import rung
from rlaifv_jax.sampling.decode import Program, jitted
from rlaifv_jax.sampling.prompt import Prompt

NO_LIMIT = 2**30


class Slots:
    """G prompts of up to P positions on a mesh; the devices work in `admit` and `advance` only.

    Args:
      program: with a cache of G and P. params: unstacked weights. seed: of all draws.
    """

    def __init__(self, program: Program, params: Params, mesh: Mesh, tile: Tile, seed: int):
        self.program, self.params, self.mesh, self.seed = program, params, mesh, seed
        self.shape = RowShape(program.cache.prefix, 0, tile)
        self.at_once = parallel.rows_divisor(mesh)  # r, prompts that are computed at once
        self.prompts: list[Prompt | None] = [None] * program.cache.prompts
        self.functions = jitted(program, mesh)
        with jax.set_mesh(mesh):
            self.state = self.functions.new_state()
        self.stopped = np.zeros(self.state.search.token.shape, bool)

    @property
    def free(self) -> int:
        return self.prompts.count(None)

    @property
    def busy(self) -> bool:
        return self.free < len(self.prompts)

    @property
    def passes(self) -> int:
        """Newest tokens that went through the decoder, those of idle branches included."""
        return int(self.state.steps) * self.state.search.token.size

    def admit(self, prompts: list[Prompt]) -> int:
        """Put prompts into free slots; returns the positions that were computed."""
        free = [slot for slot, prompt in enumerate(self.prompts) if prompt is None]
        computed = 0
        for first in range(0, len(prompts), self.at_once):
            part = prompts[first : first + self.at_once]
            slots = free[first : first + len(part)]
            for slot, prompt in zip(slots, part, strict=True):
                self.prompts[slot] = prompt
            self._compute(part, slots)
            computed += self.at_once * self.shape.row_length
        return computed

    def _compute(self, prompts: list[Prompt], slots: list[int]) -> None:
        missing = self.at_once - len(prompts)
        images = rung(max(prompt.encoded.tiles for prompt in prompts))
        rows = [[Item(prompt.encoded, prompt.image)] for prompt in prompts] + [[]] * missing
        batch = build_rows(rows, replace(self.shape, images=images))
        keys = np.zeros((self.at_once, 2), np.uint32)
        keys[: len(prompts)] = [prompt.key(self.seed) for prompt in prompts]
        nowhere = len(self.prompts)
        where = jax.device_put(np.array(slots + [nowhere] * missing, np.int32), parallel.replicated(self.mesh))
        with jax.set_mesh(self.mesh):
            placed = jax.device_put((batch, keys), parallel.rows_sharding(self.mesh))
            self.state = self.functions.admit(self.params, self.state, placed[0], where, placed[1])

    def advance(self, wanted: int, most: int = NO_LIMIT) -> None:
        """Decode until `wanted` prompts have finished, all have, or after `most` steps."""
        numbers = (jnp.asarray(value, jnp.int32) for value in (most, wanted))
        with jax.set_mesh(self.mesh):
            self.state = self.functions.advance(self.params, self.state, self.stopped, *numbers)
        self.stopped[:] = False

    def finished(self) -> list[tuple[Prompt, list[list[int]]]]:
        """Prompts that are done with the tokens of their answers; their slots are free again."""
        running = np.asarray(self.state.search.running)
        done = [slot for slot, prompt in enumerate(self.prompts) if prompt is not None and not running[slot]]
        if not done:
            return []
        tokens, lengths = jax.device_get((self.state.search.tokens, self.state.search.lengths))
        found = []
        for slot in done:
            prompt, self.prompts[slot] = self.prompts[slot], None
            assert prompt is not None
            answers = zip(tokens[slot], lengths[slot], strict=True)
            found.append((prompt, [answer[:length].tolist() for answer, length in answers][: self.program.samples]))
        return found

    def unfinished(self) -> list[tuple[int, int, Prompt, list[int]]]:
        """(slot, branch, prompt, tokens so far) of running samples; of beams what all of a prompt agree on, once."""
        search, found = self.state.search, []
        running = np.asarray(search.running)
        slots = [(slot, prompt) for slot, prompt in enumerate(self.prompts) if prompt is not None and running[slot]]
        if isinstance(search, Branches):
            live, samples, tokens, lengths = jax.device_get((search.live, search.sample, search.tokens, search.length))
            for slot, prompt in slots:
                for branch in np.flatnonzero(live[slot]):
                    sample, length = samples[slot, branch], lengths[slot, branch]
                    found.append((slot, int(branch), prompt, tokens[slot, sample, :length].tolist()))
            return found
        going, length, done, tokens = jax.device_get((search.sequences, search.length, search.done, search.tokens))
        for slot, prompt in slots:
            candidates = np.concatenate([going[slot], tokens[slot][done[slot]]])[:, : length[slot]]
            differs = np.flatnonzero((candidates != candidates[0]).any(axis=0))
            agreed = candidates[0, : differs[0] if len(differs) else None]
            found.append((slot, 0, prompt, agreed.tolist()))
        return found
