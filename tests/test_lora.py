import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from rlaifv_jax import parallel
from rlaifv_jax.models import lora
from rlaifv_jax.models.blueprint import flat, join, nested, split_frozen
from rlaifv_jax.models.lora import PATHS, Lora
from rlaifv_jax.ops.dropout import dropout
from rlaifv_jax.optim import optimizer
from rlaifv_jax.step import Step, init_state, log_probs, train_step
from tests import tiny

TRANSFORM = optimizer(dataclasses.replace(tiny.OPTIM, lr=1e-3))
ALL = tuple(PATHS)


def make(rank=4, alpha=8.0, dropout=0.0, targets=ALL, base="", up=0.0):
    """A step over the tiny model with adapters, and (trained, frozen). up: size of random `up` matrices."""
    adapters = Lora(rank, alpha, dropout, targets, base)
    plan = lora.overlay(tiny.BLUEPRINT, adapters)
    step = Step(plan, tiny.DPO, tiny.COMPUTE, "float32", adapters, seed=3)
    own = lora.quantized(plan, tiny.params(), jnp.float32)
    added = flat(lora.fresh(plan, 0))
    rng = np.random.default_rng(1)
    if up:
        added = {
            k: jnp.asarray(rng.normal(0, up, v.shape), v.dtype) if k.endswith("up") else v for k, v in added.items()
        }
    frozen = ("vision", *lora.untrained(plan))
    return step, split_frozen(join(own, nested(added)), frozen)


def rows(count=6, seed=0):
    rng = np.random.default_rng(seed)
    return tiny.batch([[tiny.item(rng)] for _ in range(count)])


def with_reference(batch, step, params, frozen):
    one = jax.tree.map(lambda leaf: leaf[0], batch)
    return batch._replace(reference=log_probs(params, frozen, one, step)[None])


def test_the_first_loss_is_that_of_the_base_exactly():
    step, (params, frozen) = make(dropout=0.3)
    batch = with_reference(rows(), tiny.step(), *split_frozen(tiny.params(), tiny.FROZEN))
    run = jax.jit(partial(train_step, step=step, optimizer=TRANSFORM))
    state, metrics = run(init_state(params, frozen, TRANSFORM), batch)
    assert float(metrics["loss"]) == pytest.approx(math.log(2), abs=1e-7)
    state, metrics = run(state, batch)
    assert float(metrics["loss"]) < math.log(2)
    for path, value in flat(state.frozen).items():
        np.testing.assert_array_equal(value, flat(frozen)[path])
    moved = {path for path, value in flat(state.params).items() if not np.array_equal(value, flat(params)[path])}
    assert moved == set(flat(params))


def test_only_adapters_and_projector_are_trained():
    _, (params, _) = make(targets=("q_proj", "down_proj"))
    assert {path.rpartition("/")[0] for path in flat(params)} == {
        "decoder/layers/attention/query/adapter",
        "decoder/layers/mlp/down/adapter",
        "projector/first",
        "projector/second",
    }


def test_adapters_are_what_the_paper_says():
    step, (params, frozen) = make(up=0.1)
    merged = flat(tiny.params())
    for path in PATHS.values():
        down, up = (flat(params)[f"decoder/layers/{path}/adapter/{name}"] for name in ("down", "up"))
        kernel = f"decoder/layers/{path}/kernel"
        merged[kernel] = merged[kernel] + 8.0 / 4 * jnp.einsum("ldr,lrf->ldf", down, up)
    one = jax.tree.map(lambda leaf: leaf[0], rows())
    ours = log_probs(params, frozen, one, step)
    plain = log_probs(nested(merged), {}, one, tiny.step())
    assert float(jnp.max(jnp.abs(plain - log_probs(tiny.params(), {}, one, tiny.step())))) > 0.1
    np.testing.assert_allclose(ours, plain, atol=2e-5)


def test_dropout_is_drawn_anew_for_every_update_and_micro_step():
    step, (params, frozen) = make(dropout=0.5, up=0.3)
    one = jax.tree.map(lambda leaf: leaf[0], rows())
    keys = [*step.dropout_keys(jnp.int32(0), 2), *step.dropout_keys(jnp.int32(1), 2)]
    found = [log_probs(params, frozen, one, step, key) for key in keys]
    assert all(float(jnp.max(jnp.abs(a - b))) > 1e-3 for n, a in enumerate(found) for b in found[:n])
    np.testing.assert_array_equal(found[0], log_probs(params, frozen, one, step, keys[0]))


def test_dropout_is_before_the_adapter():
    adapter = lora.Adapter(Lora(48, 96.0, 0.25, ALL, ""), nnx.Param(jnp.zeros((1, 48, 48)), axes=("embed", "heads")))
    adapter.down = adapter.up = nnx.Param(jnp.eye(48))  # as the scan over layers hands them on
    key, x = jnp.array([1, 2], jnp.uint32), jnp.ones((4, 8, 48))
    np.testing.assert_array_equal(adapter(x), 2 * x)
    adapter.keys = nnx.Variable(key)
    np.testing.assert_array_equal(adapter(x), 2 * dropout(x, key, 0.25))


def test_the_start_does_not_depend_on_the_mesh():
    plan = lora.overlay(tiny.BLUEPRINT, Lora(4, 8.0, 0.0, ALL, ""))
    found = []
    for sizes in ((1, 1, 1), (1, 4, 2)):
        mesh = parallel.make_mesh(*sizes, devices=jax.devices()[: math.prod(sizes)])
        places = flat(parallel.shardings(plan.axes, plan.shapes, mesh))
        where = {path: places[path] for path in places if lora.ADAPTER in path}
        found.append(jax.jit(lambda: flat(lora.fresh(plan, 7)), out_shardings=where)())
    for path, value in found[0].items():
        np.testing.assert_array_equal(value, found[1][path])
        if path.endswith("down"):
            bound = 1 / math.sqrt(value.shape[1])
            assert float(jnp.max(jnp.abs(value))) <= bound
            assert float(jnp.std(value)) == pytest.approx(bound / math.sqrt(3), rel=0.2)


def test_int8_is_close_and_exact_where_it_can_be():
    kernel = jnp.asarray(np.random.default_rng(0).normal(size=(64, 8)), jnp.float32)
    kernel = kernel.at[:, 3].set(0)
    narrow, scale = lora.quantize(kernel, jnp.float32)
    assert narrow.dtype == jnp.int8
    assert float(jnp.max(jnp.abs(narrow * scale - kernel) / jnp.where(scale == 0, 1, scale))) <= 0.5 + 1e-4
    again, _ = lora.quantize(narrow * scale, jnp.float32)
    np.testing.assert_array_equal(again, narrow)


def test_an_int8_base_is_trained_beside():
    step, (params, frozen) = make(base="int8")
    assert flat(frozen)["decoder/layers/mlp/up/kernel"].dtype == jnp.int8
    exact = log_probs(tiny.params(), {}, jax.tree.map(lambda leaf: leaf[0], rows()), tiny.step())
    one = jax.tree.map(lambda leaf: leaf[0], rows())
    close = log_probs(params, frozen, one, step)
    assert 1e-4 < float(jnp.mean(jnp.abs(close - exact))) < 0.1
    batch = with_reference(rows(), step, params, frozen)
    run = jax.jit(partial(train_step, step=step, optimizer=TRANSFORM))
    state = init_state(params, frozen, TRANSFORM)
    found = []
    for _ in range(3):
        state, metrics = run(state, batch)
        found.append(float(metrics["loss"]))
    assert found[0] == pytest.approx(math.log(2), abs=1e-7)
    assert found[2] < found[1] < found[0]
