"""The smallest building blocks: a linear map, two norms, stacked layers, and how layers are run.

Parameters carry the names of their logical axes (`axes=`), which rlaifv_jax.parallel turns into shardings.
No layer has a numeric default: every eps and width comes from the checkpoint's config.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rlaifv_jax.ops.flash import KEPT
from rlaifv_jax.ops.linear import linear, linear_int8
from rlaifv_jax.ops.norm import layer_norm, rms_norm

INIT_STD = 0.02  # of random weights; pretrained ones overwrite it

_attention = jax.checkpoint_policies.save_only_these_names(KEPT)  # output and log-sum-exp
_dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable  # products with weights

# What the backward pass keeps of each layer beside its input; the rest is computed again.
REMAT_POLICIES: dict[str, Any] = {
    "full": jax.checkpoint_policies.nothing_saveable,
    "attention": _attention,
    "dots": jax.checkpoint_policies.save_from_both_policies(_dots, _attention),
    "none": jax.checkpoint_policies.everything_saveable,
}


@dataclass(frozen=True)
class Compute:
    """How to run a model; nothing here changes what it computes.

    attention, tower_attention: backends of ops.attention for rows of tokens and for images. remat: what the backward
    pass keeps of each layer (a key of REMAT_POLICIES). vocab_block: columns of the vocabulary that are projected onto
    at once.
    """

    attention: str
    tower_attention: str
    remat: str
    vocab_block: int


PLAIN = Compute(attention="dense", tower_attention="dense", remat="none", vocab_block=4096)  # small models, any device


def parameter(rngs: nnx.Rngs, shape: tuple[int, ...], axes: tuple[str | None, ...]) -> nnx.Param:
    return nnx.Param(INIT_STD * jax.random.normal(rngs.params(), shape), axes=axes)


class Linear(nnx.Module):
    """y = x @ kernel (+ bias), kernel [in, out]: the transpose of a PyTorch weight.

    kernel_scale, adapter: what rlaifv_jax.models.lora may add, the scales [out] of an int8 kernel and an adapter.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        axes: tuple[str | None, str | None],
        *,
        bias: bool,
        rngs: nnx.Rngs,
    ):
        self.kernel = parameter(rngs, (width_in, width_out), axes)
        self.bias = nnx.Param(jnp.zeros(width_out), axes=(axes[1],)) if bias else None
        self.kernel_scale: Any = nnx.data(None)
        self.adapter: Any = nnx.data(None)

    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, scale = self.kernel[...], self.kernel_scale
        y = linear(x, kernel) if scale is None else linear_int8(x, kernel, scale[...])
        if self.adapter is not None:
            y = y + self.adapter(x)
        return y if self.bias is None else y + self.bias[...]


class RMSNorm(nnx.Module):
    def __init__(self, width: int, eps: float):
        self.scale = nnx.Param(jnp.ones(width), axes=(None,))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        return rms_norm(x, self.scale[...], self.eps)


class LayerNorm(nnx.Module):
    def __init__(self, width: int, eps: float):
        self.scale = nnx.Param(jnp.ones(width), axes=(None,))
        self.bias = nnx.Param(jnp.zeros(width), axes=(None,))
        self.eps = eps

    def __call__(self, x: jax.Array) -> jax.Array:
        return layer_norm(x, self.scale[...], self.bias[...], self.eps)


def stack(build: Callable[[nnx.Rngs], Any], count: int, rngs: nnx.Rngs) -> Any:
    """`count` layers as one module whose parameters have a leading layer axis."""
    return jax.vmap(lambda key: build(nnx.Rngs(key)))(jax.random.split(rngs.params(), count))


def run(layers: Any, x: jax.Array, apply: Callable[[Any, jax.Array], jax.Array], compute: Compute) -> jax.Array:
    """Pass `x` through stacked layers with one compiled body, rematerialised by policy."""

    def body(carry: jax.Array, layer: Any) -> tuple[jax.Array, None]:
        return apply(layer, carry), None

    body = jax.checkpoint(body, policy=REMAT_POLICIES[compute.remat], prevent_cse=False)
    return jax.lax.scan(body, x, layers)[0]
