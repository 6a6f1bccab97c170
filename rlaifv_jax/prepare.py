"""What training and the reference stage have in common: from a config to a model, its data and the step.

A `Run` is the boundary between the config, which is a program, and the rest of the code, which sees plain values.
"""

import dataclasses
import importlib.util
import json
import math
import os
from collections.abc import Mapping, Sequence
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
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.data.encode import Encoder
from rlaifv_jax.data.index import Index, admit, scan
from rlaifv_jax.data.loader import Loader
from rlaifv_jax.data.order import epoch_order
from rlaifv_jax.data.rows import RowShape, empty_batch
from rlaifv_jax.data.schema import Source, open_source
from rlaifv_jax.data.templates import get_template
from rlaifv_jax.data.tokenizer import load_tokenizer
from rlaifv_jax.errors import UserError
from rlaifv_jax.fingerprint import settings_fingerprint
from rlaifv_jax.losses import OBJECTIVES, Objective
from rlaifv_jax.models.blueprint import Params, is_frozen, split_frozen
from rlaifv_jax.models.layers import REMAT_POLICIES, Compute
from rlaifv_jax.ops.attention import BACKENDS
from rlaifv_jax.step import Step


@dataclass(frozen=True)
class Data:
    """A source and the rows of it that are used."""

    source: Source
    index: Index


@dataclass(frozen=True)
class Run:
    """Everything a command needs, checked. T and R are `shape.row_length` and `shape.targets`.

    whole: all usable rows of data.path; train: those that are trained on; held_out: those that are evaluated on,
    a part of `whole` or another source.
    """

    config: Any
    output_dir: epath.Path
    mesh: Mesh
    model: StoredModel
    encoder: Encoder
    whole: Data
    train: Data
    held_out: Data | None
    shape: RowShape
    step: Step
    frozen: tuple[str, ...]

    @property
    def micro_rows(self) -> int:
        """B: rows of one micro-step, over all devices."""
        return self.config.train.batch_pairs // self.config.train.accumulate

    def load_params(self) -> tuple[Params, Params]:
        """(trainable in master precision, frozen in compute precision), streamed onto the mesh."""
        master, compute = self.config.precision.params, self.config.precision.compute
        params = self.model.load(self.mesh, lambda path: np.dtype(compute if is_frozen(path, self.frozen) else master))
        return split_frozen(params, self.frozen)

    def loader(self, data: Data, **options: Any) -> Loader:
        """A loader of this process's share of every step; `options` as for `Loader`."""
        pad = self.config.data.image_aspect_ratio == "pad"
        return Loader(
            data.source,
            self.encoder,
            data.index,
            seed=self.config.seed,
            image_size=self.shape.image_size,
            pad_mean=self.model.config.image_mean if pad else None,
            row_length=self.shape.row_length,
            targets=self.shape.targets,
            local_rows=parallel.local_rows(self.micro_rows, self.mesh),
            workers=self.config.data.workers,
            pairs_per_step=self.micro_rows * options.get("accumulate", 1),
            **options,
        )

    def abstract_batch(self, accumulate: int) -> Batch:
        """Shapes and shardings of `[A, B, …]` rows, to compile for."""
        where = parallel.rows_sharding(self.mesh, leading=1)
        rows = empty_batch(self.micro_rows, self.shape)
        return Batch(*(jax.ShapeDtypeStruct((accumulate, *x.shape), x.dtype, sharding=where) for x in rows))

    def reference_fingerprint(self, model: str, data: Data) -> dict[str, str]:
        """What reference log-probs depend on, by part; `model` is the fingerprint of the weights."""
        shape, data_config, model_config = self.shape, self.config.data, self.model.config
        images = (
            shape.image_size,
            model_config.image_mean,
            model_config.image_std,
            data_config.image_aspect_ratio,
        )
        return {
            "model": model,
            "data": data.index.data_fingerprint[:16],
            "template or tokenizer": self.encoder.fingerprint[:16],
            "image preprocessing": settings_fingerprint(images),
            "compute precision": f"{self.step.dtype}, attention {self.step.compute.attention}",
            "row shape": f"{shape.row_length} tokens, {shape.targets} targets",
        }


def prepare(config: Any) -> Run:
    """Check the config, open model and data, and look through every row.

    Raises:
      UserError: anything that would stop the run later, if it can be known now.
    """
    _check_values(config)
    parallel.initialize()
    mesh = parallel.make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    parallel.check_rows(config.train.batch_pairs, config.train.accumulate, mesh)

    output_dir = epath.Path(_absolute(config.output_dir))
    _check_output(output_dir)

    model = open_model(config.model.path, config.model.vision_path or None)
    sizes = model.config
    encoder = Encoder(
        load_tokenizer(model.directory),
        get_template(config.data.template),
        image_tokens=sizes.image_tokens,
        max_length=config.data.max_length,
        objective=config.train.objective,
    )

    whole = train = _open_data(config, config.data.path, encoder, sizes.image_size, output_dir)
    held_out = None
    if config.data.eval_path:
        held_out = _open_data(config, config.data.eval_path, encoder, sizes.image_size, output_dir)
    elif config.data.eval_fraction > 0:
        train, held_out = _split(whole, config.data.eval_fraction, config.seed)
    opened = [whole, held_out] if held_out and config.data.eval_path else [whole]  # not the two parts of one source
    if parallel.is_main():
        _report_bad_rows(opened, output_dir / "bad_rows.jsonl")
    for data in opened:
        _check_vocabulary(data, sizes.decoder.vocab_size)
    indices = [data.index for data in (train, held_out) if data]
    shape = RowShape(
        row_length=max(index.row_length for index in indices),
        targets=max(index.targets for index in indices),
        image_size=sizes.image_size,
        image_tokens=sizes.image_tokens,
    )
    return Run(
        config=config,
        output_dir=output_dir,
        mesh=mesh,
        model=model,
        encoder=encoder,
        whole=whole,
        train=train,
        held_out=held_out,
        shape=shape,
        step=Step(
            model.blueprint,
            Objective(
                config.train.objective,
                config.dpo.beta,
                config.dpo.average,
                config.dpo.sft_weight,
                config.reference.bfloat16,
            ),
            Compute(config.attention.backend, config.train.remat),
            config.precision.compute,
        ),
        frozen=model.family.never_trained if config.train.vision else model.family.frozen,
    )


def _check_values(config: Any) -> None:
    """One line for a value that cannot work."""
    floats = ("float32", "bfloat16")
    choices: Mapping[str, tuple[Any, tuple[str, ...]]] = {
        "train.objective": (config.train.objective, tuple(OBJECTIVES)),
        "train.remat": (config.train.remat, tuple(REMAT_POLICIES)),
        "attention.backend": (config.attention.backend, BACKENDS),
        "precision.compute": (config.precision.compute, floats),
        "precision.params": (config.precision.params, floats),
        "optim.first_moment": (config.optim.first_moment, floats),
        "data.bad_rows": (config.data.bad_rows, ("skip", "fatal")),
        "data.image_aspect_ratio": (config.data.image_aspect_ratio, ("crop", "pad")),
    }
    for key, (value, legal) in choices.items():
        if value not in legal:
            raise UserError(f"{key} is {value!r}; it can be {' or '.join(map(repr, legal))}")
    for key, path in (("model.path", config.model.path), ("data.path", config.data.path)):
        if not path:
            raise UserError(f"{key} is not set; give --config.{key}=PATH or a hub id")
    at_least = {
        "train.batch_pairs": 1,
        "train.accumulate": 1,
        "train.row_length": 0,
        "train.log_every": 1,
        "train.eval_every": 0,
        "train.steps": 0,
        "train.epochs": 0,
        "checkpoint.every": 0,
        "seed": 0,
        "data.max_length": 1,
        "data.workers": 0,
        "checkpoint.keep": 1,
        "reference.shard_rows": 1,
        "optim.lr": 0,
        "optim.weight_decay": 0,
        "optim.grad_clip": 0,
        "optim.eps": 0,
    }
    for key, least in at_least.items():
        group, _, name = key.rpartition(".")
        value = config[group][name] if group else config[name]
        if not value >= least or value == math.inf:  # also catches nan
            raise UserError(f"{key} is {value}; it must be {least} or more")
    for key in ("warmup_ratio", "beta1", "beta2"):
        if not 0 <= config.optim[key] < 1:
            raise UserError(f"optim.{key} is {config.optim[key]}; it must lie in 0 … 1, below 1")
    if not math.isfinite(config.dpo.sft_weight):
        raise UserError(f"dpo.sft_weight is {config.dpo.sft_weight}; it must be a finite number")
    if not math.isfinite(config.dpo.beta) or config.dpo.beta <= 0:
        raise UserError(f"dpo.beta is {config.dpo.beta}; it must be above 0")
    if config.wandb.project and importlib.util.find_spec("wandb") is None:
        raise UserError("wandb.project is set but wandb is not installed: pip install wandb")
    if not 0 <= config.data.eval_fraction < 1:
        raise UserError(f"data.eval_fraction is {config.data.eval_fraction}; it must lie in 0 … 1")
    if config.data.eval_fraction and config.data.eval_path:
        raise UserError("data.eval_fraction and data.eval_path are both set; choose one")


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


def _open_data(config: Any, path: str, encoder: Encoder, image_size: int, output_dir: epath.Path) -> Data:
    main = parallel.is_main()
    source = open_source(path, objective=config.train.objective)
    if not main:
        multihost_utils.sync_global_devices("the first process has scanned the data")  # and left its result
    workers, cache = config.data.workers, output_dir / "cache"
    index = scan(source, encoder, image_size=image_size, workers=workers, cache_dir=cache, progress=main)
    if main:
        multihost_utils.sync_global_devices("the first process has scanned the data")
    index = admit(index, row_length=config.train.row_length, bad_rows=config.data.bad_rows)
    if main:
        truncated = int(index.truncated.any(axis=1).sum())
        say(f"data: {path}: {len(index)} of {index.total} rows, {truncated} with a cut answer")
    return Data(source, index)


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
    if lines:
        file.write_text("\n".join(lines) + "\n")
        say(f"data: {len(lines)} rows left out, listed in {file}")


def _split(data: Data, fraction: float, seed: int) -> tuple[Data, Data]:
    """Hold out a share of the rows, chosen by the seed."""
    count = len(data.index)
    held = max(1, round(fraction * count))
    if held >= count:
        raise UserError(f"data.eval_fraction={fraction} of {count} rows leaves nothing to train on")
    order = epoch_order(count, seed, epoch=2**32)  # an epoch that training never reaches
    return (
        Data(data.source, data.index.take(np.sort(order[held:]))),
        Data(data.source, data.index.take(np.sort(order[:held]))),
    )
