"""AdamW with the decay mask, warm-up and cosine schedule of the published recipe."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rlaifv_jax.models.blueprint import flat, nested


@dataclass(frozen=True)
class Optim:
    """lr: peak learning rate. grad_clip: global-norm bound, 0 for none. first_moment: dtype of Adam's m."""

    lr: float
    weight_decay: float
    warmup_ratio: float
    beta1: float
    beta2: float
    eps: float
    grad_clip: float
    first_moment: str
    steps: int


def schedule(optim: Optim) -> Callable[[Any], jax.Array]:
    """Linear warm-up from 0 over ceil(warmup_ratio · steps) updates, then half a cosine to 0 at `steps`.

    Equals transformers' `get_cosine_schedule_with_warmup`: the first update has learning rate 0.
    """
    warmup = math.ceil(optim.warmup_ratio * optim.steps)

    def learning_rate(step: Any) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        rising = step / max(warmup, 1)
        falling = 0.5 * (1 + jnp.cos(jnp.pi * (step - warmup) / max(optim.steps - warmup, 1)))
        return optim.lr * jnp.where(step < warmup, rising, jnp.maximum(falling, 0))

    return learning_rate


def decayed(params: Any) -> Any:
    """True where weight decay applies: not on biases and not on the scales of norms."""
    return nested({path: not path.endswith(("bias", "/scale")) for path in flat(params)})


def optimizer(optim: Optim) -> optax.GradientTransformation:
    """AdamW (arXiv 1711.05101) as torch.optim.AdamW under the Hugging Face trainer."""
    clip = optax.clip_by_global_norm(optim.grad_clip) if optim.grad_clip > 0 else optax.identity()
    adamw = optax.adamw(
        schedule(optim),
        b1=optim.beta1,
        b2=optim.beta2,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        mask=decayed,
        mu_dtype=jnp.dtype(optim.first_moment),
    )
    return optax.chain(clip, adamw)


def make_optim(config: Any, steps: int) -> Optim:
    """The optimizer of a run's config, for a schedule of `steps` updates."""
    return Optim(**config.optim, steps=steps)
