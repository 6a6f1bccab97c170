"""This project's training step as a contender: the same functions that `rlaifv_jax.train` compiles."""

from collections.abc import Sequence
from functools import partial

import jax
import optax

from benchmarks.model import Sizes
from benchmarks.pairs import Pair, items, shared_rows
from benchmarks.recipe import Recipe
from convert.load import StoredModel
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.losses import Objective
from rlaifv_jax.models.blueprint import Params, split_frozen
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.optim import Optim, optimizer
from rlaifv_jax.step import Step, TrainState, init_state, logprob_step, train_step

FROZEN = ("vision",)


class Ours:
    """Shared-prefix rows, logits at targets only, reference log-probs computed once before."""

    def __init__(
        self,
        stored: StoredModel,
        params: Params,
        reference: Params,
        pairs: Sequence[Pair],
        sizes: Sizes,
        recipe: Recipe,
        compute: Compute,
        per_row: int,
    ):
        """`params` and `reference`: weights of policy and reference model. per_row: pairs that share a row."""
        step = Step(stored.blueprint, objective(recipe), compute, "float32")
        transform = make_optimizer(recipe)
        rows = shared_rows(items(pairs, sizes), sizes, per_row)
        known = jax.jit(partial(logprob_step, step=step))(*split_frozen(reference, FROZEN), rows)
        self._rows: Batch = jax.device_put(rows._replace(reference=known))
        self._state: TrainState = jax.jit(partial(init_state, optimizer=transform))(*split_frozen(params, FROZEN))
        update = partial(train_step, step=step, optimizer=transform)
        self._probe = jax.jit(update)
        self._update = jax.jit(update, donate_argnums=0)

    def step(self) -> float:
        self._state, metrics = jax.block_until_ready(self._update(self._state, self._rows))
        return float(metrics["loss"])

    def probe(self) -> tuple[float, float]:
        _, metrics = self._probe(self._state, self._rows)
        return float(metrics["loss"]), float(metrics["grad_norm"])


def objective(recipe: Recipe) -> Objective:
    """The published one."""
    return Objective("dpo", beta=recipe.beta, average=False, sft_weight=0.0, reference_bfloat16=False)


def make_optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """AdamW with the numbers of the recipe, float32 moments, no warm-up, no clipping."""
    return optimizer(
        Optim(
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            warmup_ratio=0.0,
            beta1=recipe.beta1,
            beta2=recipe.beta2,
            eps=recipe.eps,
            grad_clip=0.0,
            first_moment="float32",
            steps=recipe.steps,
        )
    )
