"""The pure functions that jit compiles: initial state, one training step, log-probs of a batch.

No file and no config object: what a real run, an ahead-of-time compile and a test call is the same.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rlaifv_jax import losses
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.losses import Objective, Sums
from rlaifv_jax.models import lora
from rlaifv_jax.models.blueprint import Blueprint, Params, cast, join
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.models.lora import Lora

Part = tuple[Batch, jax.Array | None]  # rows of a micro-step, and the key of its dropout


class TrainState(NamedTuple):
    """step: int32[] updates done. params: trainable weights, master precision. frozen: the rest, compute
    precision. optimizer: state of the optax transformation over `params`."""

    step: jax.Array
    params: Params
    frozen: Params
    optimizer: Any


@dataclass(frozen=True)
class Step:
    """Everything static about a step."""

    blueprint: Blueprint
    objective: Objective
    compute: Compute
    dtype: str  # of activations and of the weights as the layers see them
    lora: Lora | None = None  # whose adapters the blueprint has
    seed: int = 0  # of their dropout
    skip_nonfinite: bool = False  # leave parameters and optimizer as they are where loss or gradient is not finite

    def dropout_keys(self, update: jax.Array, micro_steps: int) -> jax.Array | None:
        """Of the micro-steps of an update, by its number; None where nothing is dropped."""
        if self.lora is None or self.lora.dropout == 0:
            return None
        return jax.random.split(jax.random.fold_in(jax.random.key(self.seed), update), micro_steps)


def init_state(params: Params, frozen: Params, optimizer: optax.GradientTransformation) -> TrainState:
    return TrainState(jnp.zeros((), jnp.int32), params, frozen, optimizer.init(params))


def log_probs(params: Params, frozen: Params, batch: Batch, step: Step, key: jax.Array | None = None) -> jax.Array:
    """float32[B, R]: the one forward pass of training, reference and evaluation. `params` in compute precision; `key`
    of dropout, which is training's alone."""
    model = step.blueprint.module(join(params, frozen))
    if key is not None:
        lora.drop(model, key)
    log_probs: jax.Array = model.log_probs(batch, step.compute)
    return log_probs


def logprob_step(params: Params, frozen: Params, batch: Batch, step: Step) -> jax.Array:
    """Log-probs of every target of `[A, B, …]` rows under master weights, as training sees them: float32[A, B, R]."""
    weights = cast(params, step.dtype)
    return jax.lax.map(lambda rows: log_probs(weights, frozen, rows, step), batch)


def eval_step(params: Params, frozen: Params, batch: Batch, step: Step) -> Sums:
    """Loss and metrics of `[A, B, …]` rows, summed, without gradients."""
    weights = cast(params, step.dtype)
    sums = jax.lax.map(
        lambda rows: losses.evaluate(log_probs(weights, frozen, rows, step), rows, step.objective), batch
    )
    return jax.tree.map(lambda value: jnp.sum(value, axis=0), sums)


def train_step(
    state: TrainState, batch: Batch, step: Step, optimizer: optax.GradientTransformation
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One update from `[A, B, …]` rows, A micro-steps of B rows.

    The loss is the sum over pairs (SFT: answer tokens) divided by their number in all micro-steps on all devices.
    Gradients are taken with respect to the weights in compute precision (so they are summed over the mesh in
    that precision, once per micro-step) and accumulated in float32.

    Returns:
      the next state and float32[] metrics: means over pairs; `skipped_steps`, since the run began, if any may be.
    """
    weights = cast(state.params, step.dtype)
    total = losses.count(batch, step.objective)
    pairs = jnp.maximum(jnp.sum(batch.pairs), 1)

    def loss(weights: Params, rows: Batch, key: jax.Array | None) -> tuple[jax.Array, Sums]:
        sums = losses.evaluate(log_probs(weights, state.frozen, rows, step, key), rows, step.objective)
        return sums.loss / jnp.maximum(total, 1e-6), sums

    def micro_step(part: Part) -> tuple[Params, Sums]:
        gradients, sums = jax.grad(loss, has_aux=True)(weights, *part)
        return cast(gradients, jnp.float32), sums

    micro_steps = batch.tokens.shape[0]
    parts: Part = (batch, step.dropout_keys(state.step, micro_steps))
    first: Part = jax.tree.map(lambda leaf: leaf[0], parts)
    if micro_steps == 1:
        gradients, sums = micro_step(first)
    else:
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(micro_step, first))
        (gradients, sums), _ = jax.lax.scan(
            lambda carry, part: (jax.tree.map(jnp.add, carry, micro_step(part)), None), zeros, parts
        )

    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {
        "loss": sums.loss / jnp.maximum(total, 1e-6),
        "grad_norm": optax.global_norm(gradients),
        "tokens/utilization": jnp.mean((batch.segments > 0).astype(jnp.float32)),
        **{name: value / pairs for name, value in sums.metrics.items()},
    }
    if step.skip_nonfinite:
        usable = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
        params, optimizer_state = jax.tree.map(
            lambda new, old: jnp.where(usable, new, old), (params, optimizer_state), (state.params, state.optimizer)
        )
        updates_done = optax.tree_utils.tree_get_all_with_path(optimizer_state, "count")[0][1]
        metrics["skipped_steps"] = (state.step + 1 - updates_done).astype(jnp.float32)
    return TrainState(state.step + 1, params, state.frozen, optimizer_state), metrics
