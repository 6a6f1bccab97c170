import dataclasses
import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlaifv_jax import losses, parallel
from rlaifv_jax.data.rows import RowShape
from rlaifv_jax.models.blueprint import flat, split_frozen
from rlaifv_jax.optim import optimizer
from rlaifv_jax.step import init_state, log_probs, logprob_step, train_step
from tests import tiny

TRANSFORM = optimizer(tiny.OPTIM)


def items(count=8, seed=0, **kinds):
    rng = np.random.default_rng(seed)
    return [tiny.item(rng, **kinds) for _ in range(count)]


def losses_and_params(rows, mesh=None, steps=3, step=None):
    step = step or tiny.step()
    params, frozen = split_frozen(tiny.params(), tiny.FROZEN)
    run = jax.jit(partial(train_step, step=step, optimizer=TRANSFORM))
    state = init_state(params, frozen, TRANSFORM)
    found = []
    for _ in range(steps):
        state, metrics = run(state, rows)
        found.append(float(metrics["loss"]))
    return found, state.params


def test_micro_steps_add_up_to_one_large_step():
    rows = [[item] for item in items()]
    whole, params = losses_and_params(tiny.batch(rows))
    for accumulate in (2, 4):
        parts, again = losses_and_params(tiny.batch(rows, accumulate=accumulate))
        np.testing.assert_allclose(parts, whole, atol=1e-6)
        for path, value in flat(again).items():
            difference = np.abs(value - flat(params)[path])
            assert difference.mean() < 5e-7, path  # Adam turns noise into full steps: see docs/parity.md


def test_uneven_micro_steps_weigh_every_pair_alike():
    """Sum over pairs divided by the number of pairs, not a mean of means."""
    rows = [[item] for item in items(5)]
    even, _ = losses_and_params(tiny.batch(rows), steps=2)
    uneven, _ = losses_and_params(tiny.batch([*rows, [], [], []], accumulate=2), steps=2)
    np.testing.assert_allclose(uneven, even, atol=1e-6)


def loss_metrics_gradients(rows, step):
    params, frozen = split_frozen(tiny.params(), tiny.FROZEN)

    def loss(params):
        sums = losses.evaluate(log_probs(params, frozen, rows, step), rows, step.objective)
        return sums.loss / sums.divisor, sums.metrics

    (value, metrics), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    return value, metrics, flat(gradients)


@pytest.mark.parametrize("backend", ["dense", "blocked", "flash_tpu", "flash_gpu"])
def test_packed_rows_equal_pairs_in_rows_of_their_own(backend):
    """Rows of three, two and one pair, with and without images, and an empty one: loss, metrics, every gradient."""
    pairs = [*items(4), *items(2, seed=1, image=False)]
    compute = dataclasses.replace(tiny.COMPUTE, attention=backend, tower_attention=backend)
    step = dataclasses.replace(tiny.step(), compute=compute)
    shape = RowShape(row_length=192, targets=96, tile=tiny.SHAPE.tile, images=2, pairs=3)
    packed = tiny.batch([[pairs[4], pairs[0], pairs[1]], [pairs[2], pairs[5]], [], [pairs[3]]], shape)
    alone = tiny.batch([[pair] for pair in pairs])
    packed, alone = (jax.tree.map(lambda leaf: leaf[0], rows) for rows in (packed, alone))
    value, metrics, gradients = loss_metrics_gradients(packed, step)
    expected, expected_metrics, expected_gradients = loss_metrics_gradients(alone, tiny.step())
    np.testing.assert_allclose(value, expected, atol=1e-5)
    for name, metric in expected_metrics.items():
        np.testing.assert_allclose(metrics[name], metric, atol=1e-5, rtol=1e-5, err_msg=name)
    for path, gradient in expected_gradients.items():
        scale = np.abs(gradient).max()
        np.testing.assert_allclose(gradients[path], gradient, atol=1e-5 * max(scale, 1e-3), err_msg=path)


def test_text_only_rows_train():
    """With places for images or, as the planner lays out data without any, with none."""
    rows = [[item] for item in items(image=False)]
    found, _ = losses_and_params(tiny.batch(rows))
    assert found[-1] < found[0]
    shape = RowShape(row_length=64, targets=32, tile=tiny.SHAPE.tile, images=0)
    no_places, _ = losses_and_params(tiny.batch(rows, shape))
    np.testing.assert_allclose(no_places, found, atol=1e-6)


def test_sft_learns_the_answer():
    found, _ = losses_and_params(tiny.batch([[item] for item in items(answers=1)]), step=tiny.step(tiny.SFT), steps=8)
    assert found[-1] < found[0] - 0.05


def test_frozen_tower_stays_and_takes_no_moments():
    params, frozen = split_frozen(tiny.params(), tiny.FROZEN)
    state = init_state(params, frozen, TRANSFORM)
    state, _ = jax.jit(partial(train_step, step=tiny.step(), optimizer=TRANSFORM))(
        state, tiny.batch([[item] for item in items()])
    )
    for path, value in flat(state.frozen).items():
        np.testing.assert_array_equal(value, flat(frozen)[path])
    trained = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert sum(leaf.size for leaf in jax.tree.leaves(state.optimizer)) < 2.01 * trained


def test_tower_trains_when_asked():
    params, frozen = split_frozen(tiny.params(), ("vision/unused",))
    state = init_state(params, frozen, TRANSFORM)
    after, _ = jax.jit(partial(train_step, step=tiny.step(), optimizer=TRANSFORM))(
        state, tiny.batch([[item] for item in items()])
    )
    before = flat(state.params)
    assert all(np.abs(value - before[path]).max() > 0 for path, value in flat(after.params).items())


def test_bfloat16_computes_close_to_float32_and_starts_at_ln_2():
    rows = tiny.batch([[item] for item in items()])
    params, frozen = split_frozen(tiny.params(scale=1.0), tiny.FROZEN)
    step = tiny.step(dtype="bfloat16")
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), frozen)
    reference = jax.jit(partial(logprob_step, step=step))(params, narrow, rows)
    state = init_state(params, narrow, TRANSFORM)
    rows = rows._replace(reference=reference)
    _, metrics = jax.jit(partial(train_step, step=step, optimizer=TRANSFORM))(state, rows)
    assert abs(float(metrics["loss"]) - np.log(2)) < 2e-3
    assert metrics["loss"].dtype == jnp.float32
    exact = jax.jit(partial(logprob_step, step=tiny.step()))(params, frozen, rows)
    np.testing.assert_allclose(reference, exact, atol=0.05)


def test_first_moment_can_be_bfloat16():
    transform = optimizer(dataclasses.replace(tiny.OPTIM, first_moment="bfloat16"))
    params, _ = split_frozen(tiny.params(), tiny.FROZEN)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(transform.init(params)) if leaf.ndim}
    assert dtypes == {jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32)}


@functools.cache
def one_device():
    return losses_and_params(tiny.batch([[item] for item in items()]))[0]


@pytest.mark.parametrize("sizes", [(1, 8, 1), (2, 4, 1), (1, 4, 2)])
def test_every_mesh_gives_the_losses_of_one_device(sizes):
    rows = tiny.batch([[item] for item in items()])
    alone = one_device()
    mesh = parallel.make_mesh(*sizes, devices=jax.devices()[:8])
    with jax.set_mesh(mesh):
        where, frozen_where = split_frozen(
            parallel.shardings(tiny.BLUEPRINT.axes, tiny.BLUEPRINT.shapes, mesh), tiny.FROZEN
        )
        params, frozen = split_frozen(tiny.params(), tiny.FROZEN)
        params, frozen = jax.device_put(params, where), jax.device_put(frozen, frozen_where)
        state = init_state(params, frozen, TRANSFORM)
        batch = parallel.put_rows(rows, mesh, leading=1)
        run = jax.jit(partial(train_step, step=tiny.step(), optimizer=TRANSFORM))
        spread = []
        for _ in range(3):
            state, metrics = run(state, batch)
            spread.append(float(metrics["loss"]))
    np.testing.assert_allclose(spread, alone, atol=1e-5)
    kernel = state.params["decoder"]["layers"]["mlp"]["gate"]["kernel"]
    assert kernel.addressable_shards[0].data.size < kernel.size


def test_a_step_that_cannot_be_used_leaves_everything_but_its_number():
    rows = tiny.batch([[item] for item in items()])
    params, frozen = split_frozen(tiny.params(), tiny.FROZEN)
    skipping = dataclasses.replace(tiny.step(), skip_nonfinite=True)
    run = jax.jit(partial(train_step, step=skipping, optimizer=TRANSFORM))
    plain = jax.jit(partial(train_step, step=tiny.step(), optimizer=TRANSFORM))
    start, _ = plain(init_state(params, frozen, TRANSFORM), rows)

    usable, metrics = run(start, rows)
    jax.tree.map(np.testing.assert_array_equal, usable, plain(start, rows)[0])
    assert metrics["skipped_steps"] == 0

    broken = rows._replace(reference=rows.reference.at[0, 0].set(jnp.nan))
    skipped, metrics = run(start, broken)
    assert not np.isfinite(metrics["loss"])
    assert metrics["skipped_steps"] == 1
    assert int(skipped.step) == 2
    jax.tree.map(np.testing.assert_array_equal, skipped._replace(step=start.step), start)
    later, metrics = run(skipped, rows)
    jax.tree.map(np.testing.assert_array_equal, later._replace(step=usable.step), usable)
    assert metrics["skipped_steps"] == 1
