"""A job for a slice that is not there: the model's sizes, lengths like those of the published data, no weights."""

import bisect
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jax.sharding import Mesh

from rlaifv_jax import flops, parallel, published
from rlaifv_jax.data.packing import (
    MOST_PAIRS,
    Deal,
    Fit,
    Sizes,
    TrainingPlan,
    best_fit,
    row_lengths,
    whole_steps,
)
from rlaifv_jax.data.rows import RowShape
from rlaifv_jax.errors import UserError
from rlaifv_jax.jaxpr_flops import dot_flops
from rlaifv_jax.job import Job, make_step, plan_rows, trained_parts
from rlaifv_jax.models.blueprint import Blueprint, blueprint
from rlaifv_jax.models.families import Family
from rlaifv_jax.ops.attention import KERNELS, Layout
from rlaifv_jax.ops.flash import kernel_flops

# Rows have to hold every step of a run like the published one: four epochs of one alignment round.
EXAMPLES, EPOCHS = 5342, 4


@dataclass(frozen=True)
class Model:
    """family, config, blueprint as in convert.load.StoredModel."""

    family: Family
    config: Any
    blueprint: Blueprint


@dataclass(frozen=True)
class SliceJob:
    """A job and the examples of one of its steps: how many, how long, and in which rows they stand."""

    job: Job
    model: Model
    sizes: Sizes
    rows: list[list[int]]

    @property
    def pairs(self) -> int:
        return sum(len(row) for row in self.rows)


@lru_cache(maxsize=4)
def find_model(path: str, vision_path: str) -> Model:
    """The sizes of a published model by its hub id, or those of a model that can be opened. No weights are read."""
    if known := published.sizes_of(path):
        family, config = known
        return Model(family, config, blueprint(family.module, config))
    if not path:
        raise UserError("model.path is not set; give --config.model.path=PATH or a hub id")
    from convert.load import open_model

    stored = open_model(path, vision_path or None)
    return Model(stored.family, stored.config, stored.blueprint)


def make_job(config: Any, mesh: Mesh, rows_per_chip: int) -> SliceJob:
    """Rows as the planner lays them out for these devices.

    rows_per_chip: 0 for `train.batch_pairs` pairs; otherwise this many rows for each part of the mesh that has rows
    of its own, with as many pairs as they hold.
    """
    model = find_model(config.model.path, config.model.vision_path)
    sizes = published.lengths(EXAMPLES)
    picture = published.picture(model.config)
    positions, tiles = (picture.positions, picture.tiles) if picture else (0, 0)
    sizes = sizes._replace(tokens=sizes.tokens - published.IMAGE_TOKENS + positions, images=sizes.images * tiles)
    lengths = _row_lengths(config, sizes)
    unit = parallel.rows_divisor(mesh) * config.train.accumulate
    if rows_per_chip:
        rows = rows_per_chip * unit
        deal, fit = _filling(config, model, sizes, rows, lengths)
    else:
        deal, fit = _planned(config, model, sizes, config.train.batch_pairs, unit)
        rows = fit.rows
    plan = TrainingPlan(sizes, deal, fit.shape, rows=rows, steps=1)
    job = Job(config, mesh, fit.shape, rows, *make_step(config, model, mesh))
    return SliceJob(job, model, sizes, plan(0))


def _planned(config: Any, model: Model, sizes: Sizes, pairs: int, unit: int) -> tuple[Deal, Fit]:
    """Steps of so many pairs, and rows that hold each of them."""
    deal, longest = Deal(sizes.tokens, seed=config.seed, pairs=pairs), int(sizes.tokens.max())
    return deal, plan_rows(config, model.config, sizes, deal, steps=_steps(pairs), unit=unit, longest=longest)


def model_flops(job: SliceJob, *, trained: bool) -> float:
    """Of one step over all chips: what its examples need, without padding (rlaifv_jax.flops).

    trained: forward and backward of all micro-steps; otherwise the forward pass of one micro-step.
    """
    places = np.array([place for row in job.rows for place in row])
    targets = job.sizes.targets[places]
    half = targets / 2  # two answers of about the same length
    prefix, answers = job.sizes.tokens[places] - targets, np.stack([half, targets - half], axis=1)
    config, images = job.model.config, job.sizes.images[places]
    if trained:
        parts = trained_parts(job.job.config)
        return float(np.sum(flops.row_flops(config, prefix, answers, targets, images, parts)))
    forward = flops.decoder_flops(config.decoder, prefix, answers, targets) + images * flops.image_flops(config)
    return float(np.sum(forward)) / job.job.config.train.accumulate


def executed_flops(job: SliceJob, closed_jaxpr: Any) -> float:
    """What a traced step executes over all chips, recomputation and the padding of rows and blocks included.

    The attention kernels skip blocks that nobody sees: theirs are counted for the layout of the job's own rows.
    """
    decoder, step = job.model.config.decoder, job.job.step
    kernels = KERNELS.get(step.compute.attention)
    if kernels is None:
        return dot_flops(closed_jaxpr)
    per_row = kernel_flops(
        kernels, _layout(job), decoder.heads, decoder.head_width, np.dtype(step.dtype), window=decoder.window
    )
    rows = job.job.micro_rows / len(job.rows)  # of one call, over all chips, relative to those of the layout
    share = rows / job.job.mesh.size
    return dot_flops(closed_jaxpr, kernels={name: value * share for name, value in per_row.items()})


def _layout(job: SliceJob) -> Layout:
    """int32[rows, T] ids of the job's rows, two answers of about the same length to each prefix."""
    length = job.job.shape.row_length
    layout = Layout(*np.zeros((3, len(job.rows), length), np.int32))
    for number, row in enumerate(job.rows):
        start = 0
        for segment, place in enumerate(row, 1):
            tokens, targets = int(job.sizes.tokens[place]), int(job.sizes.targets[place])
            branches = np.repeat([0, 1, 2], [tokens - targets, targets // 2, targets - targets // 2])
            layout.segments[number, start : start + tokens] = segment
            layout.branches[number, start : start + tokens] = branches
            for branch, first in ((0, 0), (1, tokens - targets), (2, tokens - targets)):
                here = start + np.flatnonzero(branches == branch)
                layout.positions[number, here] = first + np.arange(len(here))
            start += tokens
    return layout


def memory_hints(config: Any) -> list[str]:
    """What would make a step smaller."""
    hints = []
    if config.train.remat != "full":
        hints.append("--config.train.remat=full keeps least for the backward pass")
    if config.optim.first_moment == "float32":
        hints.append("--config.optim.first_moment=bfloat16 saves 2 bytes a parameter")
    if config.attention.backend == "dense":
        hints.append("--config.attention.backend=auto never holds the scores of a whole row")
    hints += [
        "fewer or shorter rows: --rows, --config.train.batch_pairs, --config.train.row_length",
        "more micro-steps: --config.train.accumulate (gradients take 4 bytes a parameter then)",
        "more chips: weights and optimizer state are spread over mesh.fsdp x mesh.tensor",
    ]
    return hints


def _filling(config: Any, model: Model, sizes: Sizes, rows: int, lengths: Sequence[int]) -> tuple[Deal, Fit]:
    """The most pairs that `rows` rows hold in every step, at the row length that is fullest with many pairs."""
    density, length = max(_density(config, model, sizes, length) for length in lengths)
    fixed = copy.deepcopy(config)
    fixed.train.row_length = length
    shape = _widest(config, model, length)
    most = int(rows * density * length)  # what rows hold on average, over all steps
    too_many = bisect.bisect_left(
        range(most + 1), True, lo=1, key=lambda pairs: not _holds(config, sizes, shape, rows, pairs)
    )
    for pairs in range(too_many - 1, 0, -1):
        deal, fit = _planned(fixed, model, sizes, pairs, rows)
        if fit.rows <= rows:
            return deal, fit
    raise AssertionError("a row holds every pair")


def _holds(config: Any, sizes: Sizes, shape: RowShape, rows: int, pairs: int) -> bool:
    """Whether `rows` rows hold each step of so many pairs."""
    deal = Deal(sizes.tokens, seed=config.seed, pairs=pairs)
    return all(len(best_fit(sizes, deal(step), shape)) <= rows for step in range(_steps(pairs)))


def _steps(pairs: int) -> int:
    return -(-EPOCHS * EXAMPLES // pairs)


def _widest(config: Any, model: Model, length: int) -> RowShape:
    """Rows of this length that take as many pairs as the config allows."""
    most = config.train.pairs_per_row or MOST_PAIRS
    picture = published.picture(model.config)
    tiles = most * (picture.tiles if picture else 0)
    return RowShape(length, length, model.config.tile, images=tiles, pairs=most)


def _row_lengths(config: Any, sizes: Sizes) -> Sequence[int]:
    longest = whole_steps(int(sizes.tokens.max()))
    if config.train.row_length and config.train.row_length < longest:
        raise UserError(
            f"train.row_length={config.train.row_length} is shorter than the longest pair, {longest}; "
            "it must be that or more"
        )
    return row_lengths(config.train.row_length, longest, config.train.longest_row)


def _density(config: Any, model: Model, sizes: Sizes, length: int) -> tuple[float, int]:
    """Pairs for each position of rows of this length, and the length."""
    count = len(sizes.tokens)
    return count / len(best_fit(sizes, range(count), _widest(config, model, length))) / length, length
