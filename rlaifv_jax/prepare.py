"""What training and the reference stage have in common: from a config to a model, its data and the step.

A `Run` is the boundary between the config, which is a program, and the rest of the code, which sees plain values.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from convert.load import StoredModel, open_model
from rlaifv_jax import parallel
from rlaifv_jax.cli import say
from rlaifv_jax.config_values import check_values
from rlaifv_jax.data.augment import Augment
from rlaifv_jax.data.chat_template import ChatTemplate
from rlaifv_jax.data.encode import Encoder
from rlaifv_jax.data.index import Index
from rlaifv_jax.data.loader import Loader, RowPlan, TargetLogProbs
from rlaifv_jax.data.packing import Deal, Fit, PassPlan, TrainingPlan
from rlaifv_jax.data.training_encoder import training_encoder
from rlaifv_jax.errors import UserError
from rlaifv_jax.fingerprint import settings_fingerprint
from rlaifv_jax.job import Job, make_step, plan_rows
from rlaifv_jax.models import lora
from rlaifv_jax.models.blueprint import Params, cast, flat, is_frozen, join, nested, split_frozen
from rlaifv_jax.places import refused, whole
from rlaifv_jax.plan import Plan, make_plan
from rlaifv_jax.run_data import Data, Datasets, image_processor, open_datasets, token_weight

FULL_ENOUGH = 0.75  # share of a step's positions that hold tokens, below which a user should know


@dataclass(frozen=True)
class Run(Job):
    """Everything a command needs, checked. deal: which examples make a step."""

    output_dir: epath.Path
    model: StoredModel
    encoder: Encoder
    data: Datasets
    plan: Plan
    deal: Deal

    @property
    def augment(self) -> Augment | None:
        """The view of every picture that the reference sees, and training too unless its views are fresh."""
        return Augment(self.config.seed) if self.config.data.augment else None

    @property
    def template_name(self) -> str | None:
        """Of a template that has one, for whoever opens the trained model; a tokenizer's own travels with it."""
        return None if isinstance(self.encoder.template, ChatTemplate) else self.encoder.template.name

    def load_params(self) -> tuple[Params, Params]:
        """(trainable in master precision, frozen in compute precision), streamed onto the mesh."""
        master, compute = self.config.precision.params, self.config.precision.compute
        plan = self.step.blueprint
        params = self.model.load(
            self.mesh, lambda path: np.dtype(compute if is_frozen(path, self.frozen) else master), plan
        )
        if self.step.lora:
            params = join(params, self._fresh_adapters())
        return split_frozen(params, self.frozen)

    def _fresh_adapters(self) -> Params:
        plan = self.step.blueprint
        places = flat(parallel.shardings(plan.axes, plan.shapes, self.mesh))
        shapes = jax.eval_shape(lambda: lora.fresh(plan, 0))
        where = nested({path: places[path] for path in flat(shapes)})
        make = jax.jit(
            lambda: cast(lora.fresh(plan, self.config.seed), self.config.precision.params), out_shardings=where
        )
        return make()

    def training_batches(self, start_step: int, references: TargetLogProbs | None) -> Loader:
        """The batches of training from `start_step` on, in their micro-steps: this process's share of each."""
        plan = TrainingPlan(self.data.train.index.sizes, self.deal, self.shape, rows=self.rows, steps=self.plan.steps)
        augment = self.augment and dataclasses.replace(self.augment, fresh=self.config.data.augment_views == "fresh")
        options: dict[str, Any] = {"start_step": start_step, "references": references, "augment": augment}
        return self._loader(self.data.train, plan, accumulate=self.config.train.accumulate, **options)

    def one_pass(
        self, data: Data, *, wanted: np.ndarray | None = None, references: TargetLogProbs | None = None
    ) -> Loader:
        """Every example of `data` (or those `wanted`, and who shares a row with them) once, in single micro-steps."""
        plan = PassPlan(data.index.sizes, self.shape, rows=self.micro_rows, wanted=wanted)
        return self._loader(data, plan, references=references, augment=self.augment)

    def _loader(self, data: Data, plan: RowPlan, **options: Any) -> Loader:
        return Loader(
            data.source,
            self.encoder,
            data.index,
            plan,
            local_rows=parallel.local_rows(self.micro_rows, self.mesh),
            workers=self.config.data.workers,
            token_weight=token_weight(self.config),
            **options,
        )

    def reference_fingerprint(self, model: str, data: Data) -> dict[str, str]:
        """What reference log-probs depend on, by part; `model` is the fingerprint of the weights."""
        config = self.model.config
        views = self.augment.identity if self.augment else ()
        seen = (self.encoder.processor, config.image_mean, config.image_std, *views)
        return {
            "model": model,
            "data": data.index.data_fingerprint[:16],
            "template or tokenizer": self.encoder.fingerprint[:16],
            "image preprocessing": settings_fingerprint(seen),
            "compute precision": self.step.dtype,
        }


def prepare(config: Any) -> Run:
    """Check the config, open model and data, and look through every row.

    Raises:
      UserError: anything that would stop the run later, if it can be known now.
    """
    check_values(config)
    parallel.initialize()
    mesh = parallel.make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)

    output_dir = epath.Path(whole(config.output_dir))
    _check_output(output_dir)

    model = open_model(config.model.path, config.model.vision_path or None)
    encoder = training_encoder(
        model,
        image_processor(config, model),
        template=config.data.template,
        max_length=config.data.max_length,
        objective=config.train.objective,
    )

    data = open_datasets(config, model, encoder, output_dir)
    train = data.train.index
    step, frozen = make_step(config, model, mesh)
    plan = make_plan(config, len(train))
    deal = Deal(train.lengths, seed=config.seed, pairs=config.train.batch_pairs)
    passed = [each.index for each in (data.whole, data.held_out) if each]
    fit = _shape_rows(config, mesh, model, plan, deal, train, passed)
    if parallel.is_main():
        _report_rows(deal.pairs, fit, train.lengths, parallel.rows_divisor(mesh))
    return Run(
        config=config,
        output_dir=output_dir,
        mesh=mesh,
        model=model,
        encoder=encoder,
        data=data,
        plan=plan,
        deal=deal,
        shape=fit.shape,
        rows=fit.rows,
        step=step,
        frozen=frozen,
    )


def _check_output(directory: epath.Path) -> None:
    """Make output_dir, and see that all processes of the job share it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        mark = directory / ".shared"
        if parallel.is_main():
            mark.write_text("written by the first process of a job; the others look for it")
    except (OSError, ImportError) as error:  # ImportError: gs:// without gcsfs
        raise refused(f"output_dir: {directory} cannot be written", error, "choose another") from None
    multihost_utils.sync_global_devices("output_dir is there")
    if not np.all(multihost_utils.process_allgather(np.array(mark.exists()))):
        raise UserError(f"output_dir: {directory} is not shared by all processes; use gs://… or a network disk")
    multihost_utils.sync_global_devices("everybody has looked")
    if parallel.is_main():
        mark.unlink()


def _shape_rows(
    config: Any, mesh: Mesh, model: StoredModel, plan: Plan, deal: Deal, train: Index, passed: list[Index]
) -> Fit:
    """Rows for the steps of training in which every example of `passed` fits too: those of `train` and more."""
    fit = plan_rows(
        config,
        model.config,
        train.sizes,
        deal,
        steps=plan.steps,
        unit=parallel.rows_divisor(mesh) * config.train.accumulate,
        longest=max(int(index.lengths.max()) for index in passed),
    )
    shape = dataclasses.replace(
        fit.shape,
        targets=max(fit.shape.targets, *(int(index.sizes.targets.max()) for index in passed)),
        images=max(fit.shape.images, *(int(index.images.max()) for index in passed)),
    )
    return Fit(shape, fit.rows)


def _report_rows(pairs: int, fit: Fit, lengths: np.ndarray, groups: int) -> None:
    """groups: parts of the mesh that have rows of their own."""
    full = pairs * lengths.mean() / (fit.rows * fit.shape.row_length)
    say(f"rows: {pairs} pairs a step in {fit.rows} rows of {fit.shape.row_length}, {full:.0%} full")
    if full < FULL_ENOUGH and groups > 1:
        say(
            f"warning: {pairs} pairs do not fill this mesh; let mesh.tensor take a part of the devices, or raise "
            "train.batch_pairs, which is another recipe"
        )
