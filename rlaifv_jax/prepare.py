"""What training and the reference stage have in common: from a config to a model, its data and the step.

A `Run` is the boundary between the config, which is a program, and the rest of the code, which sees plain values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh

from convert.load import Checkpoint, open_checkpoint
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
from rlaifv_jax.models.blueprint import Params, split_frozen
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
    checkpoint: Checkpoint
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
        is_frozen = tuple(prefix + "/" for prefix in self.frozen)
        params = self.checkpoint.load(
            self.mesh, lambda path: np.dtype(compute if (path + "/").startswith(is_frozen) else master)
        )
        return split_frozen(params, self.frozen)

    def loader(self, data: Data, **options: Any) -> Loader:
        """A loader of this process's share of every step; `options` as for `Loader`."""
        rows = options.pop("rows", self.micro_rows)
        return Loader(
            data.source,
            self.encoder,
            data.index,
            seed=self.config.seed,
            image_size=self.shape.image_size,
            pad_images=self.config.data.image_aspect_ratio == "pad",
            row_length=self.shape.row_length,
            targets=self.shape.targets,
            local_rows=parallel.local_rows(rows, self.mesh),
            workers=self.config.data.workers,
            pairs_per_step=rows * options.get("accumulate", 1),
            **options,
        )

    def abstract_batch(self, accumulate: int) -> Batch:
        """Shapes and shardings of `[A, B, …]` rows, to compile for."""
        where = parallel.rows_sharding(self.mesh, leading=1)
        rows = empty_batch(self.micro_rows, self.shape)
        return Batch(*(jax.ShapeDtypeStruct((accumulate, *x.shape), x.dtype, sharding=where) for x in rows))

    def reference_fingerprint(self, model: str, data: Data) -> dict[str, str]:
        """What reference log-probs depend on, by part; `model` is the fingerprint of the weights."""
        shape, data_config, model_config = self.shape, self.config.data, self.checkpoint.config
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
    _check_choices(config)
    parallel.initialize()
    mesh = parallel.make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    parallel.check_rows(config.train.batch_pairs, config.train.accumulate, mesh)

    checkpoint = open_checkpoint(config.model.path, config.model.vision_path)
    model = checkpoint.config
    encoder = Encoder(
        load_tokenizer(checkpoint.directory),
        get_template(config.data.template),
        image_tokens=model.image_tokens,
        max_length=config.data.max_length,
        objective=config.train.objective,
    )

    output_dir = epath.Path(config.output_dir)
    whole = train = _open_data(config, config.data.path, encoder, model.image_size)
    held_out = None
    if config.data.eval_path:
        held_out = _open_data(config, config.data.eval_path, encoder, model.image_size)
    elif config.data.eval_fraction > 0:
        train, held_out = _split(whole, config.data.eval_fraction, config.seed)
    indices = [data.index for data in (train, held_out) if data]
    shape = RowShape(
        row_length=max(index.row_length for index in indices),
        targets=max(index.targets for index in indices),
        image_size=model.image_size,
        image_tokens=model.image_tokens,
    )
    return Run(
        config=config,
        output_dir=output_dir,
        mesh=mesh,
        checkpoint=checkpoint,
        encoder=encoder,
        whole=whole,
        train=train,
        held_out=held_out,
        shape=shape,
        step=Step(
            checkpoint.blueprint,
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
        frozen=checkpoint.family.never_trained if config.train.vision else checkpoint.family.frozen,
    )


def _check_choices(config: Any) -> None:
    """One line for a value that is not among a key's choices."""
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
    if not 0 <= config.data.eval_fraction < 1:
        raise UserError(f"data.eval_fraction is {config.data.eval_fraction}; it must lie in 0 … 1")
    if config.data.eval_fraction and config.data.eval_path:
        raise UserError("data.eval_fraction and data.eval_path are both set; choose one")


def _open_data(config: Any, path: str, encoder: Encoder, image_size: int) -> Data:
    main = parallel.is_main()
    source = open_source(path, objective=config.train.objective)
    cache = epath.Path(config.output_dir) / "cache"
    index = scan(source, encoder, image_size=image_size, workers=config.data.workers, cache_dir=cache, progress=main)
    index = admit(index, row_length=config.train.row_length, bad_rows=config.data.bad_rows)
    if main:
        truncated = int(index.truncated.any(axis=1).sum())
        say(f"data: {path}: {len(index)} of {index.total} rows, {truncated} with a cut answer")
        for record in index.bad[:10]:
            say(f"data: left out row {record.row} (id {record.id}): {record.reason}: {record.detail}")
        if len(index.bad) > 10:
            say(f"data: … and {len(index.bad) - 10} more")
    return Data(source, index)


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
