"""Low-rank adapters (LoRA, arXiv 2106.09685) beside the linear maps of a decoder whose own weights stay as they are.

    y = x @ kernel + (alpha / rank) · dropout(x) @ down @ up        down [D, r] random, up [r, F] zero at first

An overlay, not another model: `overlay` gives a blueprint more parameters, `decoder/layers/…/adapter/down` and `up`,
stacked as the layers are. With `base='int8'` the kernels of the decoder's layers become int8 with one scale for every
output (`kernel_scale`), which halves what they take.
"""

import math
import zlib
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rlaifv_jax.models.blueprint import Blueprint, Params, altered, flat, nested
from rlaifv_jax.models.layers import Linear
from rlaifv_jax.ops.dropout import dropout
from rlaifv_jax.ops.linear import linear

# What PEFT calls the linear maps of a Llama layer, and where they are.
PATHS = {
    "q_proj": "attention/query",
    "k_proj": "attention/key",
    "v_proj": "attention/value",
    "o_proj": "attention/out",
    "gate_proj": "mlp/gate",
    "up_proj": "mlp/up",
    "down_proj": "mlp/down",
}
LAYERS = "decoder/layers"
ADAPTER = "/adapter/"  # in the path of every parameter of an adapter
BASES = ("", "int8")
INT8_MOST = 127


@dataclass(frozen=True)
class Lora:
    """rank: r. alpha: the adapters' share is alpha / rank. dropout: of what goes into adapters, in training.
    targets: keys of PATHS. base: '' for the decoder's weights in compute precision, or 'int8'."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]
    base: str

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


class Adapter(nnx.Module):
    """The adapters of one linear map in all layers, stacked. keys: of dropout, uint32[L, 2]; None for none."""

    def __init__(self, lora: Lora, kernel: nnx.Param):
        layers, width_in, width_out = kernel.shape
        into, out = kernel.get_metadata()["axes"]
        self.down = nnx.Param(jnp.zeros((layers, width_in, lora.rank)), axes=(into, None))
        self.up = nnx.Param(jnp.zeros((layers, lora.rank, width_out)), axes=(None, out))
        self.lora = lora
        self.keys = nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        if self.keys is not None:
            x = dropout(x, self.keys[...], self.lora.dropout)
        return self.lora.scale * linear(linear(x, self.down[...]), self.up[...])


def overlay(plan: Blueprint, lora: Lora) -> Blueprint:
    """The blueprint of a model with adapters, and with int8 kernels where `lora` wants them."""

    def alter(model: Any) -> None:
        for name, path in PATHS.items():
            module = _linear(model, path)
            if name in lora.targets:
                module.adapter = Adapter(lora, module.kernel)
            if lora.base == "int8":
                axes, shape = module.kernel.get_metadata()["axes"], module.kernel.shape
                module.kernel = nnx.Param(jnp.zeros(shape, jnp.int8), axes=axes)
                module.kernel_scale = nnx.Param(jnp.zeros((shape[0], shape[2])), axes=axes[1:])

    return altered(plan, alter)


def drop(model: Any, key: jax.Array) -> None:
    """Give the adapters of a model, inside a traced function, the randomness of their dropout."""
    for number, path in enumerate(PATHS.values()):
        adapter = _linear(model, path).adapter
        if adapter is not None:
            keys = jax.random.split(jax.random.fold_in(key, number), adapter.down.shape[0])
            adapter.keys = nnx.Variable(jax.vmap(jax.random.key_data)(keys))


def fresh(plan: Blueprint, seed: int) -> Params:
    """The adapters that training begins with: float32, `down` as in PEFT and PyTorch's linear layers (uniform within
    ± 1 / √D), `up` zero. The same on every mesh."""
    made = {}
    for path, leaf in flat(plan.shapes).items():
        if ADAPTER not in path:
            continue
        bound = 0.0 if path.endswith("up") else 1 / math.sqrt(leaf.shape[1])
        key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(path.encode()))
        made[path] = jax.random.uniform(key, leaf.shape, minval=-bound, maxval=bound)
    return nested(made)


def halves(kernel: str) -> tuple[str, str]:
    """Paths of `down` and `up` beside the kernel at a path."""
    adapter = kernel.removesuffix("/kernel") + ADAPTER
    return adapter + "down", adapter + "up"


def without_adapters(params: Params) -> Params:
    """The weights that adapters lie beside."""
    return nested({path: leaf for path, leaf in flat(params).items() if ADAPTER not in path})


def untrained(plan: Blueprint) -> tuple[str, ...]:
    """Paths of all that stays as it is in the decoder of an `overlay`."""
    return tuple(path for path in flat(plan.shapes) if path.startswith("decoder/") and ADAPTER not in path)


def quantize(kernel: jax.Array, dtype: Any) -> tuple[jax.Array, jax.Array]:
    """[D, F] → int8[D, F] and `dtype`[F], one scale for every output; their product is off by half a scale at most."""
    wide = kernel.astype(jnp.float32)
    scale = (jnp.max(jnp.abs(wide), axis=0) / INT8_MOST).astype(dtype)
    exact = jnp.where(scale == 0, 1, scale.astype(jnp.float32))
    return jnp.clip(jnp.round(wide / exact), -INT8_MOST, INT8_MOST).astype(jnp.int8), scale


def quantized(plan: Blueprint, params: Params, dtype: Any) -> Params:
    """Parameters of the model itself as an `overlay` with an int8 base has them."""
    shapes, found = flat(plan.shapes), flat(params)
    for path in [path for path in found if f"{path}_scale" in shapes]:
        found[path], found[f"{path}_scale"] = jax.vmap(lambda kernel: quantize(kernel, dtype))(found[path])
    return nested(found)


def _linear(model: Any, path: str) -> Linear:
    group, name = path.split("/")
    module: Linear = getattr(getattr(model.decoder.layers, group), name)
    return module
