"""What training and the reference stage have in common: from a config to a model, its data and the step.

A `Run` is the boundary between the config, which is a program, and the rest of the code, which sees plain values.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
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
from rlaifv_jax.data import images
from rlaifv_jax.data.augment import Augment
from rlaifv_jax.data.chat_template import ChatTemplate
from rlaifv_jax.data.conversation import conversation_of
from rlaifv_jax.data.differences import Differences
from rlaifv_jax.data.encode import Encoder
from rlaifv_jax.data.index import Index, admit, scan
from rlaifv_jax.data.loader import Loader, RowPlan, TargetLogProbs
from rlaifv_jax.data.order import generator
from rlaifv_jax.data.packing import Deal, Fit, PassPlan, TrainingPlan
from rlaifv_jax.data.schema import Source, open_source
from rlaifv_jax.data.tokenizer import load_tokenizer
from rlaifv_jax.errors import UserError
from rlaifv_jax.fingerprint import settings_fingerprint
from rlaifv_jax.job import Job, make_step, plan_rows
from rlaifv_jax.models import lora
from rlaifv_jax.models.blueprint import Params, cast, flat, is_frozen, join, nested, split_frozen
from rlaifv_jax.plan import Plan, make_plan

FULL_ENOUGH = 0.75  # share of a step's positions that hold tokens, below which a user should know


@dataclass(frozen=True)
class Data:
    """A source and the rows of it that are used."""

    source: Source
    index: Index


@dataclass(frozen=True)
class Run(Job):
    """Everything a command needs, checked.

    whole: all usable rows of data.path; train: those that are trained on; held_out: those that are evaluated on,
    a part of `whole` or another source. deal: which examples make a step.
    """

    output_dir: epath.Path
    model: StoredModel
    encoder: Encoder
    whole: Data
    train: Data
    held_out: Data | None
    plan: Plan
    deal: Deal

    @property
    def aspect_ratio(self) -> str:
        """How oblong pictures become square."""
        return _aspect_ratio(self.config, self.model)

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
        plan = TrainingPlan(self.train.index.sizes, self.deal, self.shape, rows=self.rows, steps=self.plan.steps)
        augment = self.augment and dataclasses.replace(self.augment, fresh=self.config.data.augment_views == "fresh")
        options: dict[str, Any] = {"start_step": start_step, "references": references, "augment": augment}
        return self._loader(self.train, plan, accumulate=self.config.train.accumulate, **options)

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
            square=partial(images.square, aspect_ratio=self.aspect_ratio, mean=self.model.config.image_mean),
            local_rows=parallel.local_rows(self.micro_rows, self.mesh),
            workers=self.config.data.workers,
            token_weight=_token_weight(self.config),
            **options,
        )

    def reference_fingerprint(self, model: str, data: Data) -> dict[str, str]:
        """What reference log-probs depend on, by part; `model` is the fingerprint of the weights."""
        model_config = self.model.config
        images = (
            self.shape.image_size,
            model_config.image_mean,
            model_config.image_std,
            *(self.augment.identity if self.augment else (self.aspect_ratio,)),
        )
        return {
            "model": model,
            "data": data.index.data_fingerprint[:16],
            "template or tokenizer": self.encoder.fingerprint[:16],
            "image preprocessing": settings_fingerprint(images),
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

    output_dir = epath.Path(_absolute(config.output_dir))
    _check_output(output_dir)

    model = open_model(config.model.path, config.model.vision_path or None)
    sizes = model.config
    tokenizer = load_tokenizer(model.directory)
    encoder = Encoder(
        tokenizer,
        conversation_of(model, tokenizer, config.data.template),
        image_tokens=sizes.image_tokens,
        max_length=config.data.max_length,
        objective=config.train.objective,
    )

    looked_for = {
        "image_size": sizes.image_size,
        "aspect_ratio": _aspect_ratio(config, model),
        "differences": _differences(config, model, encoder),
    }
    whole = train = _open_data(config, config.data.path, encoder, looked_for, output_dir)
    held_out = None
    if config.data.eval_path:
        held_out = _open_data(config, config.data.eval_path, encoder, looked_for, output_dir)
    elif config.data.eval_fraction > 0:
        train, held_out = _split(whole, config.data.eval_fraction, config.seed)
    opened = [whole, held_out] if held_out and config.data.eval_path else [whole]  # not the two parts of one source
    if parallel.is_main():
        _report_bad_rows(opened, output_dir / "bad_rows.jsonl")
    for data in opened:
        _check_vocabulary(data, sizes.decoder.vocab_size)
    step, frozen = make_step(config, model, mesh)
    plan = make_plan(config, len(train.index))
    deal = Deal(train.index.lengths, seed=config.seed, pairs=config.train.batch_pairs)
    passed = [data.index for data in (whole, held_out) if data]
    fit = _shape_rows(config, mesh, model, plan, deal, train.index, passed)
    if parallel.is_main():
        _report_rows(deal.pairs, fit, train.index.lengths, parallel.rows_divisor(mesh))
    return Run(
        config=config,
        output_dir=output_dir,
        mesh=mesh,
        model=model,
        encoder=encoder,
        whole=whole,
        train=train,
        held_out=held_out,
        plan=plan,
        deal=deal,
        shape=fit.shape,
        rows=fit.rows,
        step=step,
        frozen=frozen,
    )


def _absolute(path: str) -> str:
    """Orbax wants whole paths; addresses such as gs://… are whole already."""
    return path if "://" in path else os.path.abspath(path)


def _check_output(directory: epath.Path) -> None:
    """Make output_dir, and see that all processes of the job share it."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        mark = directory / ".shared"
        if parallel.is_main():
            mark.write_text("written by the first process of a job; the others look for it")
    except (OSError, ImportError) as error:  # ImportError: gs:// without gcsfs
        raise UserError(f"output_dir: {directory} cannot be written: {error}") from None
    multihost_utils.sync_global_devices("output_dir is there")
    if not np.all(multihost_utils.process_allgather(np.array(mark.exists()))):
        raise UserError(f"output_dir: {directory} is not shared by all processes; use gs://… or a network disk")
    multihost_utils.sync_global_devices("everybody has looked")
    if parallel.is_main():
        mark.unlink()


def _aspect_ratio(config: Any, model: StoredModel) -> str:
    """How oblong pictures become square."""
    return config.data.image_aspect_ratio or model.family.training_aspect_ratio


def _differences(config: Any, model: StoredModel, encoder: Encoder) -> Differences | None:
    """How the answers of a pair are compared; None where all tokens weigh the same."""
    if _token_weight(config) == 1:
        return None
    return Differences(config.dpo.difference, model.family.spread_image, encoder.tokenizer.pad_id)


def _token_weight(config: Any) -> float:
    """Of changed tokens. In plain fine-tuning there is nothing that an answer could differ from."""
    return config.dpo.token_weight if config.train.objective == "dpo" else 1.0


def _open_data(config: Any, path: str, encoder: Encoder, looked_for: dict[str, Any], output_dir: epath.Path) -> Data:
    """looked_for: what `scan` is told."""
    main = parallel.is_main()
    source = open_source(path, objective=config.train.objective)
    if not main:
        multihost_utils.sync_global_devices("the first process has scanned the data")  # and left its result
    workers, cache = config.data.workers, output_dir / "cache"
    index = scan(source, encoder, **looked_for, workers=workers, cache_dir=cache, progress=main)
    if main:
        multihost_utils.sync_global_devices("the first process has scanned the data")
    index = admit(index, row_length=config.train.row_length, bad_rows=config.data.bad_rows)
    if main:
        truncated = int(index.truncated.any(axis=1).sum())
        say(f"data: {path}: {len(index)} of {index.total} rows, {truncated} with a cut answer")
        if looked_for["differences"]:
            (share, without), weight = index.changed_share(), config.dpo.token_weight
            say(f"data: {path}: {share:.1%} of the answers' tokens changed, weight {weight:g}; none in {without} pairs")
    return Data(source, index)


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


def _check_vocabulary(data: Data, rows: int) -> None:
    """A token that the embedding has no row for would be looked up as another one."""
    if int(data.index.highest_tokens.max()) < rows:
        return
    place = int(data.index.highest_tokens.argmax())
    raise UserError(
        f"data: {data.source.path}, row {data.index.rows[place]}: token id {data.index.highest_tokens[place]}, but the "
        f"model's vocabulary has {rows} rows; its tokenizer belongs to another model"
    )


def _report_bad_rows(sources: Sequence[Data], file: epath.Path) -> None:
    """The first few of each source on the terminal, all of them in a file."""
    lines = []
    for index in (data.index for data in sources):
        for record in index.bad[:10]:
            say(f"data: left out row {record.row} (id {record.id}): {record.reason}: {record.detail}")
        lines += [json.dumps({"path": index.path, **dataclasses.asdict(record)}) for record in index.bad]
    file.unlink(missing_ok=True)  # of an earlier run
    if lines:
        file.write_text("\n".join(lines) + "\n")
        say(f"data: {len(lines)} rows left out, listed in {file}")


def _split(data: Data, fraction: float, seed: int) -> tuple[Data, Data]:
    """Hold out a share of the rows, chosen by the seed."""
    count = len(data.index)
    held = max(1, round(fraction * count))
    if held >= count:
        raise UserError(f"data.eval_fraction={fraction} of {count} rows leaves nothing to train on")
    order = generator(seed, 0, purpose="held out").permutation(count)
    return (
        Data(data.source, data.index.take(np.sort(order[held:]))),
        Data(data.source, data.index.take(np.sort(order[:held]))),
    )
