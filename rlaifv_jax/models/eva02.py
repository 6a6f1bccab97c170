"""The EVA02-CLIP-E/14+ vision transformer (arXiv 2303.15389), as OmniLMM uses it: all patches behind the last norm."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from rlaifv_jax.models.layers import Compute, LayerNorm, parameter, run, stack
from rlaifv_jax.models.vit import Style, VitConfig, VitLayer, embed_patches, lead_with
from rlaifv_jax.parallel import constrain


@dataclass(frozen=True)
class Eva02Config(VitConfig):
    """Sizes of a tower. position_side: patches along an edge of the pictures that it was pre-trained on."""

    position_side: int


STYLE = Style(partial(jax.nn.gelu, approximate=False), norm_first=False, key_bias=False, inner_norms=False)


class Eva02(nnx.Module):
    """Without rotary positions, with norms behind attention and MLP: as `eva02_enormous_patch14_clip_224` of timm."""

    def __init__(self, config: Eva02Config, *, rngs: nnx.Rngs):
        self.config = config
        d, p = config.width, config.patch_size
        self.patch = parameter(rngs, (p, p, 3, d), (None, None, None, "embed"))
        self.patch_bias = nnx.Param(jnp.zeros(d), axes=("embed",))
        self.class_token = parameter(rngs, (1, 1, d), (None, None, None))
        self.position = parameter(rngs, (1, config.position_side**2 + 1, d), (None, None, "embed"))
        self.layers = stack(lambda r: VitLayer(config, STYLE, rngs=r), config.layers, rngs)
        self.norm = LayerNorm(d, config.norm_eps)

    def __call__(self, pixels: jax.Array, compute: Compute) -> jax.Array:
        """Normalised pixels [N, height, width, 3] → patch features [N, P, D], class token dropped.

        Equals `Eva(..., dynamic_img_size=True).forward_features(pixels)[:, 1:]` of timm without its last block.
        """
        x = embed_patches(pixels, self.patch[...]) + self.patch_bias[...]
        x = lead_with(self.class_token[0, 0], x) + self._positions()
        x = run(self.layers, constrain(x, "batch", None, None), lambda layer, h: layer(h, compute), compute)
        return self.norm(x)[:, 1:]

    def _positions(self) -> jax.Array:
        """[1 + P, D]: the learnt table, spread over larger or smaller pictures.

        PyTorch's antialiased bicubic interpolation, in float32, has the kernel of jax.image.
        """
        table, was, side = self.position[0], self.config.position_side, self.config.side
        if was == side:
            return table
        grid = table[1:].reshape(was, was, -1).astype(jnp.float32)
        spread = jax.image.resize(grid, (side, side, grid.shape[-1]), "cubic", antialias=True)
        return jnp.concatenate([table[:1], spread.reshape(side * side, -1).astype(table.dtype)])
