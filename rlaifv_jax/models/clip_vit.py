"""The CLIP vision transformer (arXiv 2103.00020), as LLaVA uses it: patch features of an inner layer."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from rlaifv_jax.models.layers import Compute, LayerNorm, Linear, parameter, run, stack
from rlaifv_jax.ops.attention import attention
from rlaifv_jax.parallel import constrain


@dataclass(frozen=True)
class ClipVitConfig:
    """Sizes of a tower.

    `feature_layer` counts like hidden_states in transformers: -2 is the output of the last layer but one.
    """

    width: int
    mlp_width: int
    layers: int
    heads: int
    image_size: int
    patch_size: int
    norm_eps: float
    feature_layer: int

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def used_layers(self) -> int:
        """Layers that the features depend on: 23 of 24 in LLaVA-1.5."""
        return self.feature_layer if self.feature_layer >= 0 else self.layers + 1 + self.feature_layer


def quick_gelu(x: jax.Array) -> jax.Array:
    return x * jax.nn.sigmoid(1.702 * x)


class ClipLayer(nnx.Module):
    def __init__(self, config: ClipVitConfig, *, rngs: nnx.Rngs):
        self.config = config
        d, f = config.width, config.mlp_width
        self.attention_norm = LayerNorm(d, config.norm_eps)
        self.query = Linear(d, d, ("embed", "heads"), bias=True, rngs=rngs)
        self.key = Linear(d, d, ("embed", "heads"), bias=True, rngs=rngs)
        self.value = Linear(d, d, ("embed", "heads"), bias=True, rngs=rngs)
        self.out = Linear(d, d, ("heads", "embed"), bias=True, rngs=rngs)
        self.mlp_norm = LayerNorm(d, config.norm_eps)
        self.up = Linear(d, f, ("embed", "mlp"), bias=True, rngs=rngs)
        self.down = Linear(f, d, ("mlp", "embed"), bias=True, rngs=rngs)

    def __call__(self, x: jax.Array, compute: Compute) -> jax.Array:
        heads, width = self.config.heads, self.config.width // self.config.heads
        y = self.attention_norm(x)
        query, key, value = (
            project(y).reshape(*y.shape[:2], heads, width) for project in (self.query, self.key, self.value)
        )
        mixed = attention(
            query, key, value, layout=None, scale=width**-0.5, window=None, backend=compute.tower_attention
        )
        x = x + self.out(mixed.reshape(*x.shape))
        x = x + self.down(quick_gelu(self.up(self.mlp_norm(x))))
        return constrain(x, "batch", None, None)


class Unused(nnx.Module):
    """Layers after the feature layer and the last norm: never computed, kept so that a checkpoint round-trips."""

    def __init__(self, config: ClipVitConfig, *, rngs: nnx.Rngs):
        spare = config.layers - config.used_layers
        self.layers = stack(lambda r: ClipLayer(config, rngs=r), spare, rngs) if spare else None
        self.norm = LayerNorm(config.width, config.norm_eps)


class ClipVit(nnx.Module):
    def __init__(self, config: ClipVitConfig, *, rngs: nnx.Rngs):
        self.config = config
        d, p = config.width, config.patch_size
        self.patch = parameter(rngs, (p, p, 3, d), (None, None, None, "embed"))
        self.class_token = parameter(rngs, (d,), (None,))
        self.position = parameter(rngs, (config.patches + 1, d), (None, "embed"))
        self.pre_norm = LayerNorm(d, config.norm_eps)
        self.layers = stack(lambda r: ClipLayer(config, rngs=r), config.used_layers, rngs)
        self.unused = Unused(config, rngs=rngs)

    def __call__(self, pixels: jax.Array, compute: Compute) -> jax.Array:
        """Normalised pixels [N, height, width, 3] → patch features [N, P, D], class token dropped.

        Equals `CLIPVisionModel(...).hidden_states[feature_layer][:, 1:]` of transformers.
        """
        p, side = self.config.patch_size, self.config.image_size // self.config.patch_size
        n = pixels.shape[0]
        cut = pixels.reshape(n, side, p, side, p, 3).swapaxes(2, 3).reshape(n, side * side, -1)
        x = cut @ self.patch[...].reshape(-1, self.config.width)  # [N, P, D]
        first = jnp.broadcast_to(self.class_token[...], (n, 1, self.config.width))
        x = jnp.concatenate([first, x], axis=1) + self.position[...]
        x = self.pre_norm(constrain(x, "batch", None, None))
        x = run(self.layers, x, lambda layer, h: layer(h, compute), compute)
        return x[:, 1:]
