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
from rlaifv_jax.models.blueprint import Blueprint, Params, cast, join
from rlaifv_jax.models.layers import Compute


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


def init_state(params: Params, frozen: Params, optimizer: optax.GradientTransformation) -> TrainState:
    return TrainState(jnp.zeros((), jnp.int32), params, frozen, optimizer.init(params))


def log_probs(params: Params, frozen: Params, batch: Batch, step: Step) -> jax.Array:
    """float32[B, R]: the one forward pass of training, reference and evaluation. `params` in compute precision."""
    return step.blueprint.module(join(params, frozen)).log_probs(batch, step.compute)


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
      the next state and float32[] metrics, means over pairs.
    """
    weights = cast(state.params, step.dtype)
    total = losses.count(batch, step.objective)
    pairs = jnp.maximum(jnp.sum(batch.pairs), 1)

    def loss(weights: Params, rows: Batch) -> tuple[jax.Array, Sums]:
        sums = losses.evaluate(log_probs(weights, state.frozen, rows, step), rows, step.objective)
        return sums.loss / jnp.maximum(total, 1e-6), sums

    def micro_step(rows: Batch) -> tuple[Params, Sums]:
        gradients, sums = jax.grad(loss, has_aux=True)(weights, rows)
        return cast(gradients, jnp.float32), sums

    if batch.tokens.shape[0] == 1:
        gradients, sums = micro_step(jax.tree.map(lambda leaf: leaf[0], batch))
    else:
        zeros = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
            jax.eval_shape(micro_step, jax.tree.map(lambda leaf: leaf[0], batch)),
        )
        (gradients, sums), _ = jax.lax.scan(
            lambda carry, rows: (jax.tree.map(jnp.add, carry, micro_step(rows)), None), zeros, batch
        )

    updates, optimizer_state = optimizer.update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {
        "loss": sums.loss / jnp.maximum(total, 1e-6),
        "grad_norm": optax.global_norm(gradients),
        "tokens/utilization": jnp.mean((batch.segments > 0).astype(jnp.float32)),
        **{name: value / pairs for name, value in sums.metrics.items()},
    }
    return TrainState(state.step + 1, params, state.frozen, optimizer_state), metrics
