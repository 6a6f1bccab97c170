"""Groups of branches through a model once, and nothing generated: what scoring needs.

plan, build (calls.py)    groups → calls of the model, of few different shapes → batches
Forward                   the calls one after the other → what may follow every branch, or log-probabilities of
                          its tokens
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rlaifv_jax import parallel
from rlaifv_jax.data.ahead import ahead
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.data.encode import Encoded
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.tiles import Tile, Tiles
from rlaifv_jax.models.blueprint import Blueprint, Params
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.ops.attention import default_backend
from rlaifv_jax.sampling.calls import Call, Place, build, plan
from rlaifv_jax.sampling.load import Speaker

Images = Callable[[int], Tiles]  # of a group
AHEAD = 2  # calls whose pictures are decoded before they are wanted


class NextToken(NamedTuple):
    """chances: float32[ids], probabilities over the whole vocabulary of the ids asked for. best: the likeliest id."""

    chances: np.ndarray
    best: int


@dataclass
class Account:
    """What has been computed: tiles of images, positions of rows without their padding, branches."""

    images: int = 0
    positions: int = 0
    branches: int = 0


class Forward:
    """Runs one model over groups like these.

    Args:
      model: an opened checkpoint (convert.load.StoredModel). params: its weights on `mesh`, layers stacked, in the
        precision to compute in.
    """

    def __init__(self, model: Any, params: Params, mesh: Mesh):
        self.tile: Tile = model.config.tile
        self.params, self.mesh = params, mesh
        backend = default_backend(mesh.devices.flat[0].platform)
        compute = Compute(backend, backend, "none", vocab_block=4096)
        self.functions = functions(model.blueprint.graph, compute, mesh)
        self.account = Account()

    @classmethod
    def of(cls, speaker: Speaker) -> "Forward":
        """With weights of its own."""
        return cls(speaker.model, speaker.load_stacked(), speaker.mesh)

    def next_tokens(
        self, groups: Sequence[Encoded], images: Images, wanted: set[int], ids: Sequence[int], **rows: int
    ) -> Iterator[tuple[int, list[NextToken] | BadRow]]:
        """What may follow every branch: see `_read`."""
        wanted_ids = jax.device_put(np.asarray(ids, np.int32), parallel.replicated(self.mesh))

        def cut(found: Any, place: Place) -> NextToken:
            chances, best = found
            return NextToken(chances[place.row, place.start], int(best[place.row, place.start]))

        return self._read(groups, images, wanted, partial(self.functions[0], ids=wanted_ids), cut, **rows)

    def log_probs(
        self, groups: Sequence[Encoded], images: Images, wanted: set[int], **rows: int
    ) -> Iterator[tuple[int, list[np.ndarray] | BadRow]]:
        """Log-probabilities float32[labels] of every branch's labelled tokens: see `_read`."""

        def cut(found: Any, place: Place) -> np.ndarray:
            return found[place.row, place.start : place.start + place.count]

        return self._read(groups, images, wanted, self.functions[1], cut, **rows)

    def _read(
        self,
        groups: Sequence[Encoded],
        images: Images,
        wanted: set[int],
        function: Callable[..., Any],
        cut: Callable[[Any, Place], Any],
        **rows: int,
    ) -> Iterator[tuple[int, list[Any] | BadRow]]:
        """What `function` finds for every branch of the groups `wanted`, or why a group cannot be read.

        Groups that are not wanted are computed again where they share a call with one that is: shapes, and with them
        the last bits of a result, do not depend on what is wanted.

        Args:
          images: what the tower sees of a group; may raise `BadRow`. rows: row_length and longest_row, see `plan`.
        """
        unit = parallel.rows_divisor(self.mesh)
        calls = plan(groups, self.tile, unit, **rows)
        calls = [call for call in calls if call.groups & wanted]
        faults: dict[int, BadRow] = {}

        def tiles(group: int) -> Tiles | None:
            try:
                return images(group) if groups[group].picture else None
            except BadRow as fault:
                faults[group] = fault
                return None

        def prepare(call: Call) -> tuple[Call, tuple[Batch, list[Place]]]:
            return call, build(call, groups, tiles)

        found: dict[int, dict[int, Any]] = {group: {} for group in range(len(groups))}
        left = Counter(group for call in calls for group in call.groups)
        for call, places, values in self._each(ahead(prepare, calls, most=AHEAD), function):
            for place in places:
                found[place.group][place.branch] = cut(values, place)
            self._count(groups, places)
            for group in sorted(call.groups):
                left[group] -= 1
                if left[group] or group not in wanted:
                    continue
                branches = found.pop(group)
                yield group, faults.get(group) or [branches[number] for number in range(len(branches))]

    def _each(
        self, built: Iterable[tuple[Call, tuple[Batch, list[Place]]]], function: Callable[..., Any]
    ) -> Iterator[tuple[Call, list[Place], Any]]:
        """While a result is fetched the devices work on the next."""
        before: tuple[Call, list[Place], Any] | None = None
        for call, (batch, places) in built:
            with jax.set_mesh(self.mesh):
                values = function(self.params, jax.device_put(batch, parallel.rows_sharding(self.mesh)))
            if before:
                yield *before[:2], jax.device_get(before[2])
            before = call, places, values
        if before:
            yield *before[:2], jax.device_get(before[2])

    def _count(self, groups: Sequence[Encoded], places: Sequence[Place]) -> None:
        prefixes = {(place.row, place.group) for place in places}
        self.account.images += sum(groups[group].tiles for _, group in prefixes)
        self.account.positions += sum(groups[group].prefix_length for _, group in prefixes)
        self.account.positions += sum(len(groups[place.group].answers[place.branch].tokens) for place in places)
        self.account.branches += len(places)


@lru_cache(maxsize=16)
def functions(graph: Any, compute: Compute, mesh: Mesh) -> tuple[Any, Any]:
    """`next_tokens` and `log_probs`, compiled; equal models share what is."""
    blueprint = Blueprint(graph, {}, {})
    on_host = partial(jax.jit, out_shardings=parallel.replicated(mesh))
    return (
        on_host(partial(next_tokens, blueprint=blueprint, compute=compute)),
        on_host(partial(log_probs, blueprint=blueprint, compute=compute)),
    )


def next_tokens(
    params: Params, batch: Batch, *, ids: jax.Array, blueprint: Blueprint, compute: Compute
) -> tuple[jax.Array, jax.Array]:
    """float32[B, R, len(ids)]: softmax over the vocabulary at `batch.sources`, of `ids`; int32[B, R]: its maximum."""
    model = blueprint.module(params)
    rows = jnp.take_along_axis(model.hidden(batch, compute), batch.sources[..., None], axis=1)  # [B, R, D]
    logits = model.decoder.logits(rows)
    chances = jax.nn.softmax(logits, axis=-1)
    return jnp.take(chances, ids, axis=-1), jnp.argmax(logits, axis=-1).astype(jnp.int32)


def log_probs(params: Params, batch: Batch, *, blueprint: Blueprint, compute: Compute) -> jax.Array:
    """float32[B, R]: log-probability of every target."""
    return blueprint.module(params).log_probs(batch, compute)
