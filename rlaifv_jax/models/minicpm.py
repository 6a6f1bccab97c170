"""MiniCPM-Llama3-V 2.5: SigLIP tower, resampler, Llama-3 decoder. Composition only, no arithmetic of its own."""

from dataclasses import dataclass
from typing import ClassVar

import jax
from flax import nnx

from rlaifv_jax.data.slicing import Slicing
from rlaifv_jax.data.tiles import ImageProcessor, Tile, Tiles
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.models.resampler import GridResampler, ResamplerConfig
from rlaifv_jax.models.seeing import SeeingConfig, SeeingModel
from rlaifv_jax.models.siglip import Siglip, SiglipConfig


@dataclass(frozen=True)
class MiniCpmConfig(SeeingConfig):
    """most_slices: of a picture, the whole not counted."""

    vision: SiglipConfig
    resampler: ResamplerConfig
    most_slices: int

    aspect_ratios: ClassVar[tuple[str, ...]] = ("slices",)

    @property
    def tile_tokens(self) -> int:
        return self.resampler.queries

    @property
    def slicing(self) -> Slicing:
        return Slicing(self.vision.image_size, self.vision.patch_size, self.most_slices, self.tile_tokens)

    @property
    def tile(self) -> Tile:
        return self.slicing.tile

    def _processor(self, aspect_ratio: str) -> ImageProcessor:
        return self.slicing

    @property
    def connector_flops(self) -> float:
        return self.resampler.flops(self.vision.patches)


class MiniCpm(SeeingModel):
    def __init__(self, config: MiniCpmConfig, *, rngs: nnx.Rngs):
        self.vision = Siglip(config.vision, rngs=rngs)
        self.resampler = GridResampler(config.resampler, rngs=rngs)
        super().__init__(config, rngs=rngs)

    def image_features(self, tiles: Tiles, compute: Compute) -> jax.Array:
        """Tiles of N slices → [N, Q, D], one embedding a query."""
        pixels = self.normalized(tiles.pixels).astype(self.vision.patch.dtype)
        features = self.vision(pixels, tiles.grids[:, 0] * tiles.grids[:, 1], compute)
        return self.resampler(features, tiles.grids)
