"""Batches whose content depends on nothing but the step's number, made by grain worker processes.

Resuming needs one integer, the step: every step's batch can be built from its number alone. That also makes
the batches independent of the number of hosts and of workers.
"""

import pickle
import sys
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from PIL import Image

from rlaifv_jax.cli import say
from rlaifv_jax.data import images
from rlaifv_jax.data.augment import Augment
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.data.encode import Encoded, Encoder
from rlaifv_jax.data.index import Index, content_hash
from rlaifv_jax.data.orphans import live_with_parent
from rlaifv_jax.data.rows import Item, RowShape, build_rows
from rlaifv_jax.data.schema import Source
from rlaifv_jax.data.tiles import Tiles, one_tile
from rlaifv_jax.errors import UserError

DIED = "terminated unexpectedly"  # what grain says of a worker
RESTARTS = 2  # of workers, without a batch in between
WORTH_STARTING = 2  # steps for each worker, below which the seconds of starting processes do not pay


class TargetLogProbs(Protocol):
    """Log-probs of the answers under the reference model (rlaifv_jax.logps_files.References). Picklable."""

    def per_target(self, row: int) -> Sequence[np.ndarray]:
        """For a row of the source: float32[targets] for each answer."""


class RowPlan(Protocol):
    """Which examples stand in the rows of each step (rlaifv_jax.data.packing). Picklable."""

    shape: RowShape
    rows: int
    steps: int

    def __call__(self, step: int) -> list[list[int]]:
        """`rows` lists of positions in the index, empty ones included."""


class StepBuilder:
    """From a step's number to its batch, leaves `[A, B_local, …]`. A function that workers can be sent."""

    def __init__(
        self,
        source: Source,
        encoder: Encoder,
        index: Index,
        plan: RowPlan,
        *,
        accumulate: int,
        local_rows: np.ndarray,
        references: TargetLogProbs | None,
        augment: Augment | None,
        token_weight: float,
    ):
        self._source, self._encoder, self._plan = source, encoder, plan
        self._rows, self._hashes = index.rows, index.hashes  # the rest of the index stays at home
        self._accumulate, self._local_rows = accumulate, local_rows
        self._references = references
        self._augment = augment
        self._token_weight = token_weight
        self._changed = index.changed if token_weight != 1 else None
        if self._changed is not None and 8 * self._changed.shape[1] < index.target_counts.sum(axis=1).max(initial=0):
            raise ValueError("the index has no marks of changed tokens")

    def __call__(self, step: int) -> tuple[int, Batch]:
        rows, micro = self._plan(step), self._plan.rows // self._accumulate
        wanted = [rows[a * micro + b] for a in range(self._accumulate) for b in self._local_rows]
        flat = build_rows([[self._item(position, step) for position in row] for row in wanted], self._plan.shape)
        lead = (self._accumulate, len(self._local_rows))
        return step, Batch(*(leaf.reshape(lead + leaf.shape[1:]) for leaf in flat))

    def _item(self, position: int, step: int) -> Item:
        row = int(self._rows[position])
        try:
            example = self._source.example(row)
            if content_hash(example) != self._hashes[position].tobytes():
                raise ValueError(
                    "its text or image is not what the check of the data saw; start again after removing "
                    "OUTPUT_DIR/cache and OUTPUT_DIR/reference"
                )
            pixels = None
            if example.image is not None:
                pixels = self._tiles(images.decode(example.image), row, step)
            reference = None if self._references is None else self._references.per_target(row)
            encoded = self._encoder.encode(example)
            return Item(encoded, pixels, reference, self._weights(position, encoded))
        except Exception as error:
            # The scan let this row pass: the files have changed since, or it is our mistake.
            where = f"{self._source.path}, row {row} (id {self._source.id(row)})"
            raise UserError(f"data: {where}: {type(error).__name__}: {error}") from error

    def _tiles(self, image: Image.Image, row: int, step: int) -> Tiles:
        if self._augment:
            return one_tile(self._augment(image, self._plan.shape.tile.shape[0], row=row, step=step))
        assert self._encoder.processor is not None
        return self._encoder.processor.cut(image)

    def _weights(self, position: int, encoded: Encoded) -> Sequence[np.ndarray] | None:
        """Per answer float32[targets]: `token_weight` for changed tokens, 1 for the others; None where all count 1."""
        if self._changed is None:
            return None
        counts = [int(answer.labels.sum()) for answer in encoded.answers]
        marks = np.unpackbits(self._changed[position], count=sum(counts)).astype(bool)
        weights = np.where(marks, np.float32(self._token_weight), np.float32(1))
        return np.split(weights, np.cumsum(counts)[:-1])


class Loader:
    """Iterates over `(step, Batch)` with leaves `[A, B_local, …]` for steps `start_step` … `plan.steps` - 1.

    The rows of a step are cut into `accumulate` micro-steps of B rows; `local_rows` names those of the B that this
    process holds, None for all. augment: random views of the images instead of what the encoder's processor cuts.
    token_weight: of the targets that the index marks as changed; with 1 no marks are needed.
    Iterating again starts at `start_step` again.

    With `workers` > 0 the script needs `if __name__ == "__main__":`, because worker processes import it.
    """

    def __init__(
        self,
        source: Source,
        encoder: Encoder,
        index: Index,
        plan: RowPlan,
        *,
        accumulate: int = 1,
        local_rows: np.ndarray | Sequence[int] | None = None,
        start_step: int = 0,
        workers: int = 0,
        references: TargetLogProbs | None = None,
        augment: Augment | None = None,
        token_weight: float = 1.0,
    ):
        if plan.rows % accumulate:
            raise ValueError(f"{plan.rows} rows do not divide into {accumulate} micro-steps")
        batch_rows = plan.rows // accumulate
        local = np.arange(batch_rows) if local_rows is None else np.asarray(local_rows, np.int64)
        if len(local) and not (local.min() >= 0 and local.max() < batch_rows):
            raise ValueError(f"local_rows {local.tolist()} are not all within the {batch_rows} rows of a batch")
        self.plan = plan
        self.start_step = start_step
        self._workers = workers
        self.build = StepBuilder(
            source,
            encoder,
            index,
            plan,
            accumulate=accumulate,
            local_rows=local,
            references=references,
            augment=augment,
            token_weight=token_weight,
        )

    def __len__(self) -> int:
        """Steps that are left to iterate over."""
        return max(self.plan.steps - self.start_step, 0)

    def __iter__(self) -> Iterator[tuple[int, Batch]]:
        if not len(self):
            return
        import grain  # imports JAX: kept out of processes that only scan

        steps = grain.MapDataset.range(self.start_step, self.plan.steps).map(self.build)
        # An element is a whole step, so buffers are kept short.
        read = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        if len(self) <= WORTH_STARTING * self._workers or self._workers <= 0:
            yield from steps.to_iter_dataset(read)
            return
        _accept_unparsed_flags()
        options = grain.MultiprocessingOptions(num_workers=min(self._workers, len(self)), per_worker_buffer_size=1)
        # Sent as bytes: arrays would travel in shared memory that is not always given back at exit.
        sent = steps.map(pickle.dumps)
        done, deaths = 0, 0
        while True:
            try:
                for item in sent[done:].to_iter_dataset(read).mp_prefetch(options, _start_worker):
                    yield pickle.loads(item)
                    done, deaths = done + 1, 0
                return
            except RuntimeError as error:
                if DIED not in str(error):
                    raise
                deaths += 1
                reason = str(error).split(DIED)[1].split(".")[0].strip()
                if deaths > RESTARTS:
                    raise UserError(
                        f"data workers die again and again at step {self.start_step + done} ({reason}): is the memory "
                        "full? Lower data.workers"
                    ) from None
                say(f"warning: a data worker died ({reason}); workers start again at step {self.start_step + done}")


def _start_worker(number: int, count: int) -> None:
    live_with_parent()


def _accept_unparsed_flags() -> None:
    """grain reads absl flags when it starts workers; that fails in programs that never parsed any."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS(sys.argv[:1])
