"""Operations of matrix products and convolutions in a traced function, counted from its jaxpr.

Exact for what is traced, whichever way it is written: loops count as often as they run, `shard_map` on all its
devices, kernels by what the caller says of them or their own `cost_estimate`. Two counts are of interest. Of a step
without rematerialisation: what the model needs, the M in MFU. Of the step as it is compiled: what is executed,
recomputation included. XLA drops results that nobody needs (the last product of a layer that is recomputed for its
gradient), so they are dropped here first. One multiply-add is 2 operations; elementwise work is left out.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from jax.extend import core
from jax.interpreters import partial_eval

_OPAQUE = ("ffi_call", "ragged_dot_general")  # may hold products that nothing here can see


def dot_flops(
    closed_jaxpr: Any, *, kernels: Mapping[str, float] | None = None, while_trips: float | None = None
) -> float:
    """Operations of `jax.make_jaxpr(f)(*args)` (or `jax.jit(f).trace(*args).jaxpr`) on all devices together.

    Args:
      kernels: operations of one call (on one device, within `shard_map`) of Pallas kernels by name. Those that are
        not named count by their `cost_estimate`.
      while_trips: iterations of loops whose length is not static (`jax.lax.while_loop`).

    Raises:
      ValueError: products within a loop of unknown length and no `while_trips`, a kernel of which
        nothing is known, or a primitive whose products cannot be counted.
    """
    jaxpr, _ = partial_eval.dce_jaxpr(closed_jaxpr.jaxpr, [True] * len(closed_jaxpr.jaxpr.outvars))
    return _count(jaxpr, kernels or {}, while_trips)


def _count(jaxpr: core.Jaxpr, kernels: Mapping[str, float], while_trips: float | None) -> float:
    return sum(_equation(eqn, kernels, while_trips) for eqn in jaxpr.eqns)


def _equation(eqn: Any, kernels: Mapping[str, float], while_trips: float | None) -> float:
    name, params = eqn.primitive.name, eqn.params
    if name == "dot_general":
        return _dot(eqn)
    if name == "conv_general_dilated":
        return _convolution(eqn)
    if name in _OPAQUE:
        raise ValueError(f"{name} cannot be counted")
    if "cost_estimate" in params:
        return _kernel(params, kernels)
    inner = [_count(sub, kernels, while_trips) for sub in _sub_jaxprs(params)]
    if name == "cond":
        return max(inner)
    if name == "scan":
        return params["length"] * sum(inner)
    if name == "while" and sum(inner):
        if while_trips is None:
            raise ValueError("a while loop with matrix products has no static length: give while_trips")
        return while_trips * sum(inner)
    if name == "shard_map":  # shapes within are those of one device
        return math.prod(params["mesh"].shape[axis] for axis in params["newly_manual_axes"]) * sum(inner)
    return sum(inner)


def _kernel(params: dict[str, Any], kernels: Mapping[str, float]) -> float:
    name = params.get("name") or "(without name)"
    if name in kernels:
        return kernels[name]
    if params["cost_estimate"] is None:
        raise ValueError(f"kernel {name!r} has no cost_estimate and is not among `kernels`: operations unknown")
    return float(params["cost_estimate"].flops)


def _sub_jaxprs(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """All jaxprs among an equation's parameters: bodies, branches, the function under a transformation."""
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            item = getattr(item, "jaxpr", item)
            if isinstance(item, core.Jaxpr):
                yield item


def _dot(eqn: Any) -> float:
    """2 · batch · M · N · K."""
    (contract, _), (batch, _) = eqn.params["dimension_numbers"]
    lhs, rhs = (var.aval.shape for var in eqn.invars)
    shared = math.prod(lhs[axis] for axis in (*contract, *batch))
    return 2.0 * math.prod(lhs) * math.prod(rhs) / max(shared, 1)


def _convolution(eqn: Any) -> float:
    """2 · output · kernel, without the places where the kernel meets padding or the zeros between dilated inputs."""
    numbers, params = eqn.params["dimension_numbers"], eqn.params
    lhs, rhs, out = (var.aval.shape for var in (*eqn.invars, *eqn.outvars))
    flops = 2.0 * out[numbers.out_spec[0]] * out[numbers.out_spec[1]] * rhs[numbers.rhs_spec[1]]
    for axis, (stride, (low, _), spread, kernel_spread) in enumerate(
        zip(params["window_strides"], params["padding"], params["lhs_dilation"], params["rhs_dilation"], strict=True)
    ):
        length, window, results = (
            shape[spec[2 + axis]]
            for shape, spec in ((lhs, numbers.lhs_spec), (rhs, numbers.rhs_spec), (out, numbers.out_spec))
        )
        reached = (o * stride + k * kernel_spread - low for o in range(results) for k in range(window))
        flops *= sum(place % spread == 0 and 0 <= place <= (length - 1) * spread for place in reached)
    return flops
