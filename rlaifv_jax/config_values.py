"""Values of a config that cannot work, found before anything else is done."""

import importlib.util
import math
from collections.abc import Mapping
from typing import Any

from rlaifv_jax.data import differences
from rlaifv_jax.data.augment import AUGMENTATIONS, VIEWS
from rlaifv_jax.data.images import ASPECT_RATIOS
from rlaifv_jax.errors import UserError
from rlaifv_jax.losses import OBJECTIVES, PAIR_LOSSES
from rlaifv_jax.models.layers import REMAT_POLICIES
from rlaifv_jax.models.lora import BASES, PATHS
from rlaifv_jax.ops.attention import BACKENDS, DECODER_BACKENDS
from rlaifv_jax.profile import steps_of


def check_values(config: Any) -> None:
    """Raise `UserError` naming the key and what it can be."""
    check_computation(config)
    for key, path in (("model.path", config.model.path), ("data.path", config.data.path)):
        if not path:
            raise UserError(f"{key} is not set; give --config.{key}=PATH or a hub id")
    if config.wandb.project and importlib.util.find_spec("wandb") is None:
        raise UserError("wandb.project is set but wandb is not installed: pip install wandb")


def check_computation(config: Any) -> None:
    """The same for everything but the places of model, data and logs."""
    floats = ("float32", "bfloat16")
    choices: Mapping[str, tuple[Any, tuple[str, ...]]] = {
        "train.objective": (config.train.objective, tuple(OBJECTIVES)),
        "dpo.loss": (config.dpo.loss, tuple(PAIR_LOSSES)),
        "dpo.difference": (config.dpo.difference, differences.MODES),
        "train.remat": (config.train.remat, tuple(REMAT_POLICIES)),
        "attention.backend": (config.attention.backend, ("auto", *DECODER_BACKENDS)),
        "attention.tower": (config.attention.tower, ("", *BACKENDS)),
        "precision.compute": (config.precision.compute, floats),
        "precision.params": (config.precision.params, floats),
        "optim.first_moment": (config.optim.first_moment, floats),
        "lora.base": (config.lora.base, BASES),
        "guard.nonfinite": (config.guard.nonfinite, ("stop", "skip")),
        "data.bad_rows": (config.data.bad_rows, ("skip", "fatal")),
        "data.image_aspect_ratio": (config.data.image_aspect_ratio, ("", *ASPECT_RATIOS)),
        "data.augment": (config.data.augment, AUGMENTATIONS),
        "data.augment_views": (config.data.augment_views, VIEWS),
    }
    for key, (value, legal) in choices.items():
        if value not in legal:
            raise UserError(f"{key} is {value!r}; it can be {' or '.join(map(repr, legal))}")
    at_least = {
        "train.batch_pairs": 1,
        "train.accumulate": 1,
        "train.row_length": 0,
        "train.longest_row": 1,
        "train.pairs_per_row": 0,
        "train.vocab_block": 128,
        "train.log_every": 1,
        "train.eval_every": 0,
        "train.steps": 0,
        "train.epochs": 0,
        "checkpoint.every": 0,
        "seed": 0,
        "data.max_length": 0,
        "data.workers": 0,
        "checkpoint.keep": 1,
        "reference.shard_rows": 1,
        "guard.nonfinite_steps": 1,
        "guard.hang_seconds": 0,
        "optim.lr": 0,
        "optim.weight_decay": 0,
        "optim.grad_clip": 0,
        "optim.eps": 0,
        "lora.rank": 0,
    }
    for key, least in at_least.items():
        group, _, name = key.rpartition(".")
        value = config[group][name] if group else config[name]
        if not value >= least or value == math.inf:  # also catches nan
            raise UserError(f"{key} is {value}; it must be {least} or more")
    for key in ("warmup_ratio", "beta1", "beta2"):
        if not 0 <= config.optim[key] < 1:
            raise UserError(f"optim.{key} is {config.optim[key]}; it must lie in 0 … 1, below 1")
    if config.lora.rank:
        check_lora(config)
    elif config.lora.base:
        raise UserError(
            f"lora.base is {config.lora.base!r}, but lora.rank is 0: what is trained is not kept in int8; set lora.rank"
        )
    if not math.isfinite(config.dpo.sft_weight):
        raise UserError(f"dpo.sft_weight is {config.dpo.sft_weight}; it must be a finite number")
    for key in ("beta", "token_weight"):
        if not math.isfinite(config.dpo[key]) or config.dpo[key] <= 0:
            raise UserError(f"dpo.{key} is {config.dpo[key]}; it must be above 0")
    if not 0 <= config.dpo.label_smoothing < 0.5:
        raise UserError(f"dpo.label_smoothing is {config.dpo.label_smoothing}; it must lie in 0 … 0.5, below 0.5")
    if config.dpo.label_smoothing and config.dpo.loss != "sigmoid":
        raise UserError(f"dpo.label_smoothing is of the sigmoid loss; dpo.loss is {config.dpo.loss!r}; leave it 0")
    if config.data.augment_views == "fresh" and not config.data.augment:
        raise UserError("data.augment_views is 'fresh', but data.augment is empty: there are no views")
    if config.data.augment and config.data.image_aspect_ratio:
        raise UserError("data.augment stretches its crops to one square; leave data.image_aspect_ratio empty")
    if not 0 <= config.data.eval_fraction < 1:
        raise UserError(f"data.eval_fraction is {config.data.eval_fraction}; it must lie in 0 … 1")
    try:
        steps_of(config.profile.steps)
    except ValueError:
        raise UserError(f"profile.steps is {config.profile.steps!r}; give the first and the last, as 10:13") from None
    if config.data.eval_fraction and config.data.eval_path:
        raise UserError("data.eval_fraction and data.eval_path are both set; choose one")


def check_lora(config: Any) -> None:
    """The keys of adapters, where there are any."""
    if not 0 < config.lora.alpha < math.inf:
        raise UserError(f"lora.alpha is {config.lora.alpha}; it must be above 0")
    if not 0 <= config.lora.dropout < 1:
        raise UserError(f"lora.dropout is {config.lora.dropout}; it must lie in 0 … 1, below 1")
    targets = tuple(config.lora.targets)
    if not targets or len(set(targets)) != len(targets) or not set(targets) <= PATHS.keys():
        some = '--config.lora.targets=\'("q_proj", "v_proj")\''
        raise UserError(f"lora.targets is {targets!r}; give one or more of {', '.join(PATHS)}, as in {some}")
    if config.train.vision:
        raise UserError(
            "train.vision is set, but with lora.rank the image tower stays as it is; leave one of the two out"
        )
