"""Parameters as plain nested dicts: their shapes, their logical axes, random values, and back to a module.

Everything outside rlaifv_jax.models handles parameters as a dict of arrays keyed by module path, e.g.
`params["decoder"]["layers"]["mlp"]["gate"]["kernel"]` of shape [L, D, F]. A module exists only inside a
traced function: `model = blueprint.module(params)`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx, traverse_util
from jax.sharding import NamedSharding, PartitionSpec

Params = dict[str, Any]


@dataclass(frozen=True)
class Blueprint:
    """What can be known of a model without its weights.

    shapes: nested dict of jax.ShapeDtypeStruct, float32 but for what is kept in int8. axes: the same tree of logical
    axis names (without the leading layer axis of stacked parameters).
    """

    graph: Any
    shapes: Params
    axes: Params

    def module(self, params: Params) -> Any:
        """The model as a callable NNX module over these arrays (or tracers)."""
        return nnx.merge(self.graph, params)


def blueprint(cls: Any, config: Any) -> Blueprint:
    """Trace the constructor of `cls(config)`; no memory is taken."""
    return _of(jax.eval_shape(lambda: cls(config, rngs=nnx.Rngs(0))))


def altered(plan: Blueprint, alter: Callable[[Any], None]) -> Blueprint:
    """The blueprint of the same model after `alter` has given it, in place, other parts."""

    def changed(shapes: Params) -> Any:
        model = plan.module(shapes)
        alter(model)
        return model

    return _of(jax.eval_shape(changed, plan.shapes))


def _of(model: Any) -> Blueprint:
    graph, state = nnx.split(model)
    axes = {path: leaf.get_metadata()["axes"] for path, leaf in nnx.to_flat_state(state)}
    return Blueprint(graph, nnx.to_pure_dict(state), traverse_util.unflatten_dict(axes))


def random_params(cls: Any, config: Any, seed: int, dtype: Any = jnp.float32) -> Params:
    """Fresh weights for tests and for models trained from nothing."""
    params = nnx.to_pure_dict(nnx.state(cls(config, rngs=nnx.Rngs(seed))))
    return cast(params, dtype)


def flat(params: Params) -> dict[str, Any]:
    """Nested dict → {'decoder/embedding': array, …}."""
    return traverse_util.flatten_dict(params, sep="/")


def nested(params: dict[str, Any]) -> Params:
    """The inverse of `flat`."""
    return traverse_util.unflatten_dict(params, sep="/")


def cast(params: Params, dtype: Any) -> Params:
    return jax.tree.map(lambda leaf: leaf.astype(dtype), params)


def unstack(params: Params) -> Params:
    """Parameters whose decoder layers [L, …] become a list of L dicts. The stacked arrays are freed one by one."""
    decoder = dict(params["decoder"])
    stacked = flat(decoder["layers"])
    layers: list[Params] = [{} for _ in next(iter(stacked.values()))]
    for path, whole in stacked.items():
        for layer, leaf in zip(layers, _pieces(whole), strict=True):
            layer[path] = leaf
        whole.delete()
    return params | {"decoder": decoder | {"layers": [nested(layer) for layer in layers]}}


def unstacked_module(graph: Any, params: Params) -> tuple[Any, list[Any]]:
    """The model over `unstack`ed parameters, inside a traced function: (all but the decoder's layers, those layers)."""
    decoder = params["decoder"]
    alone = [nnx.merge(graph, params | {"decoder": decoder | {"layers": layer}}) for layer in decoder["layers"]]
    return alone[0], [model.decoder.layers for model in alone]


def _pieces(whole: jax.Array) -> list[jax.Array]:
    return jax.jit(list, out_shardings=[layer_sharding(whole.sharding)] * len(whole))(whole)


def layer_sharding(stacked: Any) -> Any:
    """Of one layer, where its part of the stacked layers [L, …] lies."""
    if not isinstance(stacked, NamedSharding):
        return stacked
    return NamedSharding(stacked.mesh, PartitionSpec(*stacked.spec[1:]))


def is_frozen(path: str, frozen: tuple[str, ...]) -> bool:
    """Whether a parameter's path is, or lies below, one of the `frozen` prefixes."""
    return (path + "/").startswith(tuple(prefix + "/" for prefix in frozen))


def split_frozen(params: Params, frozen: tuple[str, ...]) -> tuple[Params, Params]:
    """(trainable, frozen): two nested dicts that `join` puts together again."""
    leaves = flat(params)
    return (
        nested({path: leaf for path, leaf in leaves.items() if not is_frozen(path, frozen)}),
        nested({path: leaf for path, leaf in leaves.items() if is_frozen(path, frozen)}),
    )


def join(trainable: Params, frozen: Params) -> Params:
    """The inverse of `split_frozen`."""
    return nested({**flat(trainable), **flat(frozen)})
