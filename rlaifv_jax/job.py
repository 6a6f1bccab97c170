"""What the compiler needs to know of a run, and nothing more: no weights, no data, no files.

`prepare` makes one of a config and its data (a `Run` is a `Job`); `launch.compile` makes one of a config alone.
"""

from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Mesh

from rlaifv_jax import flops, parallel
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.data.packing import Deal, Fit, Sizes, fit_rows
from rlaifv_jax.data.rows import RowShape, empty_batch
from rlaifv_jax.errors import UserError
from rlaifv_jax.losses import Objective
from rlaifv_jax.models import lora
from rlaifv_jax.models.families import Trained
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.models.lora import Lora
from rlaifv_jax.ops.attention import default_backend
from rlaifv_jax.step import Step


@dataclass(frozen=True)
class Job:
    """T, R, I and S are fields of `shape`.

    rows: of a step, over all devices and micro-steps. frozen: prefixes of the parameters that are not trained.
    """

    config: Any
    mesh: Mesh
    shape: RowShape
    rows: int
    step: Step
    frozen: tuple[str, ...]

    @property
    def micro_rows(self) -> int:
        """B: rows of one micro-step, over all devices."""
        return self.rows // self.config.train.accumulate

    def abstract_batch(self, accumulate: int) -> Batch:
        """Shapes and shardings of `[A, B, …]` rows, to compile for."""
        where = parallel.rows_sharding(self.mesh, leading=1)
        rows = empty_batch(self.micro_rows, self.shape)
        return Batch(*(jax.ShapeDtypeStruct((accumulate, *x.shape), x.dtype, sharding=where) for x in rows))


def trained_parts(config: Any) -> Trained:
    """What a training config trains."""
    keys = config.lora
    adapters = Lora(keys.rank, keys.alpha, keys.dropout, tuple(keys.targets), keys.base) if keys.rank else None
    return Trained(config.train.vision, config.train.projector, adapters)


def plan_rows(config: Any, model: Any, sizes: Sizes, deal: Deal, *, steps: int, unit: int, longest: int) -> Fit:
    """Row length, pairs in a row and rows in a step as a config wants them; see `fit_rows`. model: its own config."""
    return fit_rows(
        sizes,
        deal,
        RowShape(config.train.row_length, 0, model.tile),
        steps=steps,
        unit=unit,
        longest=longest,
        longest_row=config.train.longest_row,
        pairs_per_row=config.train.pairs_per_row,
        image_cost=flops.image_cost(model, trained_parts(config)),
    )


def make_step(config: Any, model: Any, mesh: Mesh) -> tuple[Step, tuple[str, ...]]:
    """The step that a config describes, on the devices of `mesh`, and what it does not train (see `Job`).

    Args:
      model: has the family, config and blueprint of convert.load.StoredModel.

    Raises:
      UserError: the devices cannot do it.
    """
    platform = mesh.devices.flat[0].platform
    backend = config.attention.backend
    if backend == "auto":
        backend = default_backend(platform)
    if config.attention.tower == "cudnn" and platform not in ("gpu", "cuda"):
        raise UserError(f"attention.tower is 'cudnn', which needs NVIDIA GPUs: these devices are {platform!r}")
    objective = Objective(
        config.train.objective,
        config.dpo.beta,
        config.dpo.average,
        config.dpo.sft_weight,
        config.reference.bfloat16,
        config.dpo.loss,
        config.dpo.label_smoothing,
        config.dpo.reference_free,
    )
    compute = Compute(backend, config.attention.tower or backend, config.train.remat, config.train.vocab_block)
    parts = trained_parts(config)
    plan, frozen = model.blueprint, model.family.untrained(parts)
    if parts.lora:
        plan = lora.overlay(plan, parts.lora)
        frozen += lora.untrained(plan)
    skip = config.guard.nonfinite == "skip"
    return Step(plan, objective, compute, config.precision.compute, parts.lora, config.seed, skip), frozen
