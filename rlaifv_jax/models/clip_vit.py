"""The CLIP vision transformer (arXiv 2103.00020), as LLaVA uses it: patch features of an inner layer."""

from dataclasses import dataclass

import jax
from flax import nnx

from rlaifv_jax.models.layers import Compute, LayerNorm, parameter, run, stack
from rlaifv_jax.models.vit import Style, VitConfig, VitLayer, embed_patches, lead_with
from rlaifv_jax.parallel import constrain


@dataclass(frozen=True)
class ClipVitConfig(VitConfig):
    """Sizes of a tower.

    `feature_layer` counts like hidden_states in transformers: -2 is the output of the last layer but one.
    """

    feature_layer: int

    @property
    def used_layers(self) -> int:
        """23 of 24 in LLaVA-1.5."""
        return self.feature_layer if self.feature_layer >= 0 else self.layers + 1 + self.feature_layer


def quick_gelu(x: jax.Array) -> jax.Array:
    return x * jax.nn.sigmoid(1.702 * x)


STYLE = Style(quick_gelu, norm_first=True, key_bias=True, inner_norms=False)


class Unused(nnx.Module):
    """Layers after the feature layer and the last norm: never computed, kept so that a checkpoint round-trips."""

    def __init__(self, config: ClipVitConfig, *, rngs: nnx.Rngs):
        spare = config.layers - config.used_layers
        self.layers = stack(lambda r: VitLayer(config, STYLE, rngs=r), spare, rngs) if spare else None
        self.norm = LayerNorm(config.width, config.norm_eps)


class ClipVit(nnx.Module):
    def __init__(self, config: ClipVitConfig, *, rngs: nnx.Rngs):
        d, p = config.width, config.patch_size
        self.patch = parameter(rngs, (p, p, 3, d), (None, None, None, "embed"))
        self.class_token = parameter(rngs, (d,), (None,))
        self.position = parameter(rngs, (config.patches + 1, d), (None, "embed"))
        self.pre_norm = LayerNorm(d, config.norm_eps)
        self.layers = stack(lambda r: VitLayer(config, STYLE, rngs=r), config.used_layers, rngs)
        self.unused = Unused(config, rngs=rngs)

    def __call__(self, pixels: jax.Array, compute: Compute) -> jax.Array:
        """Normalised pixels [N, height, width, 3] → patch features [N, P, D], class token dropped.

        Equals `CLIPVisionModel(...).hidden_states[feature_layer][:, 1:]` of transformers.
        """
        x = lead_with(self.class_token[...], embed_patches(pixels, self.patch[...])) + self.position[...]
        x = self.pre_norm(constrain(x, "batch", None, None))
        x = run(self.layers, x, lambda layer, h: layer(h, compute), compute)
        return x[:, 1:]
