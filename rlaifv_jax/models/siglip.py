"""The SigLIP-so400m vision transformer (arXiv 2303.15343) for pictures of any shape, as MiniCPM-V uses it."""

from dataclasses import dataclass
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from rlaifv_jax.models.layers import Compute, LayerNorm, parameter, run, stack
from rlaifv_jax.models.vit import Style, VitConfig, VitLayer, embed_cut
from rlaifv_jax.parallel import constrain


@dataclass(frozen=True)
class SiglipConfig(VitConfig):
    """Sizes of a tower. image_size: of a square with as many pixels as its pictures have, more or less.
    position_side: patches along an edge of the table of positions."""

    position_side: int

    @property
    def tokens(self) -> int:
        """Patches only."""
        return self.patches


STYLE = Style(partial(jax.nn.gelu, approximate=True), norm_first=True, key_bias=True, inner_norms=False)


class Siglip(nnx.Module):
    def __init__(self, config: SiglipConfig, *, rngs: nnx.Rngs):
        self.config = config
        d, p = config.width, config.patch_size
        self.patch = parameter(rngs, (p, p, 3, d), (None, None, None, "embed"))
        self.patch_bias = nnx.Param(jnp.zeros(d), axes=("embed",))
        self.position = parameter(rngs, (config.position_side**2, d), (None, "embed"))
        self.layers = stack(lambda r: VitLayer(config, STYLE, rngs=r), config.layers, rngs)
        self.norm = LayerNorm(d, config.norm_eps)

    def __call__(self, pixels: jax.Array, lengths: jax.Array, compute: Compute) -> jax.Array:
        """Normalised pixels of patches [N, P, p², 3], of which the first int32[N] are real → features [N, P, D].

        Equals transformers' Idefics2VisionTransformer where every picture is one row of patches, as MiniCPM-V hands
        them over. Features behind the lengths mean nothing.
        """
        x = embed_cut(pixels.reshape(*pixels.shape[:2], -1), self.patch[...]) + self.patch_bias[...]
        ids = jnp.asarray(position_ids(x.shape[1], self.config.position_side))[lengths]
        x = x + self.position[...][ids.astype(jnp.int32)]
        x = run(self.layers, constrain(x, "batch", None, None), lambda layer, h: layer(h, compute, lengths), compute)
        return self.norm(x)


@cache
def position_ids(most: int, side: int) -> np.ndarray:
    """[most + 1, most] of the smallest unsigned integers that do: in row n those rows of the table that n patches take.

    The tower is told of one row of n patches, whatever the picture's shape, so patch j has the id of the fraction j/n
    among `side` columns, and all rows of the table but the first are never used. Equals transformers 4.40
    (Idefics2VisionEmbeddings), with which the model was made, bit for bit; later versions round otherwise.
    """
    ids = np.zeros((most + 1, most), np.min_scalar_type(side - 1))  # a constant of every program, so be it small
    edges = (1 / side + np.arange(side - 1) * (1 / side)).astype(np.float32)
    for count in range(1, most + 1):
        ids[count, :count] = np.searchsorted(edges, _fractions(count), side="right")
    return ids


def _fractions(count: int) -> np.ndarray:
    """float32[count]: torch.arange(0, 1 - 1e-6, 1 / count) as a CPU computes it.

    The step is a float32. Eight numbers at a time are a float32 start and so many float64 steps; those that are left
    are steps from 0.
    """
    step = np.float64(np.float32(1) / np.float32(count))
    places = np.arange(count)
    starts = np.where(places < count // 8 * 8, places // 8 * 8, 0)
    return ((step * starts).astype(np.float32).astype(np.float64) + (places - starts) * step).astype(np.float32)
