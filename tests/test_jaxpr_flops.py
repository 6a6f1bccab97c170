"""The counter of traced operations against arithmetic, XLA's own count, and the products of a compiled step."""

import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from launch import hlo, loops
from rlaifv_jax.data.rows import RowShape
from rlaifv_jax.jaxpr_flops import dot_flops
from rlaifv_jax.models.blueprint import split_frozen
from rlaifv_jax.optim import optimizer
from rlaifv_jax.step import init_state, train_step
from tests import tiny

M, K, N = 16, 32, 64
A, B = np.ones((M, K), np.float32), np.ones((K, N), np.float32)
ONE = 2 * M * K * N  # operations of A @ B


def count(f, *args, **options):
    return dot_flops(jax.make_jaxpr(f)(*args), **options)


def xla_count(stage):
    """XLA's own count for a lowered or compiled function without loops."""
    return (stage.cost_analysis() or {})["flops"]


def square(x):
    return x @ x


S = np.ones((K, K), np.float32)
SQUARE = 2 * K**3


def test_products_with_and_without_batch():
    assert count(jnp.matmul, A, B) == ONE
    assert count(lambda a, b: jnp.einsum("bmk,bkn->bmn", a, b), np.ones((5, M, K)), np.ones((5, K, N))) == 5 * ONE
    assert count(jnp.vdot, np.ones(K), np.ones(K)) == 2 * K
    assert count(jnp.sin, A) == 0


def test_loops_count_as_often_as_they_run():
    twice = lambda x: jax.lax.scan(lambda c, _: (square(c), None), x, None, length=2)[0]  # noqa: E731
    assert count(twice, S) == 2 * SQUARE
    assert count(lambda x: jax.lax.scan(lambda c, _: (twice(c), None), x, None, length=3)[0], S) == 6 * SQUARE
    assert count(lambda x: jax.lax.fori_loop(0, 4, lambda _, c: square(c), x), S) == 4 * SQUARE


def test_a_loop_of_unknown_length_needs_a_count():
    def search(x):
        return jax.lax.while_loop(lambda c: jnp.sum(c) < 1e9, square, x)

    with pytest.raises(ValueError, match="while_trips"):
        count(search, S)
    assert count(search, S, while_trips=3) == 3 * SQUARE
    assert count(lambda x: jax.lax.while_loop(lambda c: c < 9, lambda c: c + 1, x), 0) == 0


def test_a_conditional_counts_its_heavier_branch():
    assert count(lambda x: jax.lax.cond(x[0, 0] > 0, lambda y: square(square(y)), square, x), S) == 2 * SQUARE


def test_functions_under_transformations_are_seen():
    own = jax.custom_vjp(square)
    own.defvjp(lambda x: (square(x), x), lambda x, g: (g @ x.T + x.T @ g,))
    tangent = jax.custom_jvp(square)
    tangent.defjvp(lambda p, t: (square(p[0]), p[0] @ t[0]))
    for f in (jax.jit(square), jax.checkpoint(square), own, tangent, jax.jit(jax.jit(own))):
        assert count(f, S) == SQUARE
    assert count(jax.grad(lambda x: jnp.sum(own(x))), S) == 2 * SQUARE  # the value itself is not needed
    assert count(jax.grad(lambda x: jnp.sum(own(x) ** 2)), S) == 3 * SQUARE
    assert count(jax.vmap(square), np.ones((7, K, K))) == 7 * SQUARE


def test_what_nobody_needs_is_not_counted():
    def layer(x, _):
        return x, jnp.sum(square(x))  # a product that only the loop's second result depends on

    assert count(lambda x: jax.lax.scan(layer, x, None, length=3)[0], S) == 0
    assert count(lambda x: jax.lax.scan(layer, x, None, length=3)[1], S) == 3 * SQUARE

    two = jax.checkpoint(lambda x, v, w: jnp.sin(x @ v) @ w)
    # forward 2, gradient 3 (none for the input), recomputed 1: the second product is not needed for it.
    gradient = jax.grad(lambda weights, x: jnp.sum(two(x, *weights) ** 2))
    assert count(gradient, (S, S), S) == (2 + 3 + 1) * SQUARE


def test_shard_map_counts_every_device_over_which_it_is_manual():
    mesh = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    x = np.ones((8 * M, K), np.float32)

    def local(axes, spec):
        body = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(spec, P()), out_specs=spec, axis_names=axes)
        return jax.jit(body)

    whole = 8 * ONE
    assert count(local({"data", "tensor"}, P(("data", "tensor"))), x, B) == whole
    assert count(local({"tensor"}, P("tensor")), x, B) == whole
    assert count(local({"data", "tensor"}, P("data")), x, B) == 4 * whole  # four devices do the same work


def test_kernels_count_by_what_is_said_of_them_or_their_own_estimate():
    def kernel(a, b, out):
        out[...] = a[...] @ b[...]

    def product(a, b, estimate):
        return pl.pallas_call(
            kernel,
            out_shape=jax.ShapeDtypeStruct((M, N), np.float32),
            cost_estimate=estimate,
            interpret=True,
            name="product",
        )(a, b)

    estimate = pl.CostEstimate(flops=12345, transcendentals=0, bytes_accessed=0)
    assert count(partial(product, estimate=estimate), A, B) == 12345
    looped = lambda a, b: jax.lax.map(lambda x: product(x, b, None), a)  # noqa: E731
    assert count(looped, np.ones((3, M, K), np.float32), B, kernels={"product": 99, "other": 1}) == 3 * 99
    assert count(partial(product, estimate=estimate), A, B, kernels={"product": 99}) == 99
    with pytest.raises(ValueError, match=r"'product' has no cost_estimate"):
        count(partial(product, estimate=None), A, B, kernels={"other": 1})


@pytest.mark.parametrize(
    ("stride", "padding", "spread", "groups"),
    [(1, "VALID", 1, 1), (2, "VALID", 1, 1), (1, "SAME", 1, 1), (1, ((2, 1), (1, 0)), 2, 1), (1, "SAME", 1, 4)],
)
def test_convolutions_count_what_xla_counts(stride, padding, spread, groups):
    """Of the places where a kernel lies on padding or on the zeros of a dilated input, none."""
    f = partial(
        jax.lax.conv_general_dilated,
        window_strides=(stride, stride),
        padding=padding,
        lhs_dilation=(spread, spread),
        feature_group_count=groups,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x, kernel = np.ones((2, 9, 12, 8), np.float32), np.ones((3, 2, 8 // groups, 16), np.float32)
    xla = xla_count(jax.jit(f).lower(x, kernel))
    assert count(f, x, kernel) == pytest.approx(xla, rel=1e-6)


def test_an_unrolled_network_agrees_with_xla():
    """Two attention layers and their gradients; XLA also counts elementwise work, which is under 3 % here."""
    width, tokens, heads = 256, 64, 2

    def layer(x, w):
        query, key, value = ((x @ w[name]).reshape(tokens, heads, -1) for name in ("q", "k", "v"))
        weights = jax.nn.softmax(jnp.einsum("thc,shc->hts", query, key))
        x = x + jnp.einsum("hts,shc->thc", weights, value).reshape(tokens, width)
        return x + jax.nn.relu(x @ w["up"]) @ w["down"]

    def loss(layers, x):
        for weights in layers:
            x = layer(x, weights)
        return jnp.sum(x**2)

    shapes = {"q": (width, width), "k": (width, width), "v": (width, width), "up": (width, 512), "down": (512, width)}
    layers = [{name: jnp.zeros(shape) for name, shape in shapes.items()} for _ in range(2)]
    f, x = jax.grad(loss), jnp.zeros((tokens, width))
    xla = xla_count(jax.jit(f).lower(layers, x).compile())
    assert count(f, layers, x) == pytest.approx(xla, rel=0.03)


def products(module: hlo.Module) -> float:
    """Operations of all `dot`s of a compiled text, loops and fusions included."""

    def of(computation: hlo.Computation) -> float:
        total = 0.0
        for instruction in computation.instructions.values():
            if instruction.opcode == "dot":
                lhs = computation.operands(instruction)[0].arrays[0]
                axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
                assert axes
                total += 2 * instruction.arrays[0].size * np.prod([lhs.shape[int(i)] for i in axes[1].split(",")])
            elif instruction.opcode == "fusion" and (called := module.called(instruction)):
                total += of(called)
        return total

    return sum(times * of(module.computations[name]) for name, times in loops.executions(module).items())


def test_the_training_step_executes_what_is_counted():
    """Scanned layers, rematerialisation, two micro-steps, a frozen tower: equal to the compiled program's products.

    The vocabulary takes two blocks: XLA would compute the logits of a single one only once for both passes.
    """
    shape = RowShape(row_length=64, targets=32, tile=tiny.SHAPE.tile)
    compute = replace(tiny.COMPUTE, vocab_block=tiny.DECODER.vocab_size // 2 + 1)
    transform = optimizer(tiny.OPTIM)
    state = init_state(*split_frozen(tiny.params(), tiny.FROZEN), transform)
    f = partial(train_step, step=replace(tiny.step(), compute=compute), optimizer=transform)
    batch = tiny.batch([[]] * 4, shape, accumulate=2)
    module = hlo.parse(jax.jit(f).lower(state, batch).compile().as_text() or "")
    assert count(f, state, batch) == pytest.approx(products(module), rel=1e-6)
