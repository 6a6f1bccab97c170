"""The training state on the mesh: its layout, a fresh one, and the compiled step over it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from rlaifv_jax import parallel
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.models.blueprint import Params, split_frozen
from rlaifv_jax.prepare import Run
from rlaifv_jax.step import TrainState, init_state, train_step

CompiledStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]


def abstract_state(run: Run, transform: optax.GradientTransformation) -> TrainState:
    """Shapes, dtypes and shardings of the state: what jit compiles for and a checkpoint restores onto."""
    blueprint, precision = run.model.blueprint, run.config.precision
    shapes, frozen_shapes = split_frozen(blueprint.shapes, run.frozen)
    shapes, frozen_shapes = _typed(shapes, precision.params), _typed(frozen_shapes, precision.compute)
    where, frozen_where = split_frozen(parallel.shardings(blueprint.axes, blueprint.shapes, run.mesh), run.frozen)
    everywhere = parallel.replicated(run.mesh)
    moments = parallel.optimizer_shardings(transform, shapes, where, run.mesh)
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


def compile_step(
    run: Run, transform: optax.GradientTransformation, abstract: TrainState, accumulate: int
) -> CompiledStep:
    """The training step as one executable: a second compilation in a run is impossible by construction."""
    step = partial(train_step, step=run.step, optimizer=transform)
    jitted = jax.jit(step, donate_argnums=0, out_shardings=(shardings(abstract), parallel.replicated(run.mesh)))
    return jitted.lower(abstract, run.abstract_batch(accumulate)).compile()


def shardings(abstract: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def _typed(shapes: Params, dtype: str) -> Params:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(dtype)), shapes)
