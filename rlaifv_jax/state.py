"""The training state on the mesh: its layout, a fresh one, and the compiled step over it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from rlaifv_jax import parallel
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.job import Job
from rlaifv_jax.models.blueprint import Params, split_frozen
from rlaifv_jax.step import TrainState, init_state, logprob_step, train_step
from rlaifv_jax.xla_options import compiler_options

CompiledStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]


def abstract_state(job: Job, transform: optax.GradientTransformation) -> TrainState:
    """Shapes, dtypes and shardings of the state: what jit compiles for and a checkpoint restores onto."""
    blueprint, precision = job.step.blueprint, job.config.precision
    shapes, frozen_shapes = split_frozen(blueprint.shapes, job.frozen)
    shapes, frozen_shapes = _typed(shapes, precision.params), _typed(frozen_shapes, precision.compute)
    where, frozen_where = split_frozen(parallel.shardings(blueprint.axes, blueprint.shapes, job.mesh), job.frozen)
    everywhere = parallel.replicated(job.mesh)
    moments = parallel.optimizer_shardings(transform, shapes, where, job.mesh)
    places: Any = TrainState(everywhere, where, frozen_where, moments)  # type: ignore[arg-type]  # of shardings
    state = jax.eval_shape(lambda params, frozen: init_state(params, frozen, transform), shapes, frozen_shapes)
    return parallel.placed(state, places)


def fresh_state(
    params: Params, frozen: Params, transform: optax.GradientTransformation, abstract: TrainState
) -> TrainState:
    """Step 0 from loaded weights, which the state takes over (they are donated)."""
    start = jax.jit(
        lambda params, frozen: init_state(params, frozen, transform),
        out_shardings=shardings(abstract),
        donate_argnums=(0, 1),
    )
    return start(params, frozen)


def trace_step(job: Job, transform: optax.GradientTransformation, abstract: TrainState, accumulate: int) -> Any:
    """The training step as a jaxpr (`.jaxpr`) that can be lowered (`.lower()`) for the job's devices."""
    step = partial(train_step, step=job.step, optimizer=transform)
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(shardings(abstract), parallel.replicated(job.mesh)))
    return jitted.trace(abstract, job.abstract_batch(accumulate))


def trace_logprobs(job: Job, params: Params, frozen: Params) -> Any:
    """The forward pass of the reference stage, over abstract or real parameters, likewise."""
    step = partial(logprob_step, step=job.step)
    jitted = jax.jit(step, out_shardings=parallel.replicated(job.mesh))
    return jitted.trace(params, frozen, job.abstract_batch(1))


def compile_for(mesh: Mesh, traced: Any) -> Any:
    """An executable, with the options of xla_options for these devices."""
    return traced.lower().compile(compiler_options=compiler_options(mesh.devices.flat[0].device_kind))


def compile_step(
    job: Job, transform: optax.GradientTransformation, abstract: TrainState, accumulate: int
) -> CompiledStep:
    """The training step as one executable: a second compilation in a run is impossible by construction."""
    return compile_for(job.mesh, trace_step(job, transform, abstract, accumulate))


def shardings(abstract: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def _typed(shapes: Params, dtype: str) -> Params:
    """In another precision, int8 aside."""
    kept = jnp.dtype(jnp.int8)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, kept if leaf.dtype == kept else jnp.dtype(dtype)), shapes
    )
