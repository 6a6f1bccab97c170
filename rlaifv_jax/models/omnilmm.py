"""OmniLMM-12B and RLAIF-V-12B: EVA02 tower, resampler, Mistral decoder. Composition only, no arithmetic of its own."""

from dataclasses import dataclass

import jax
from flax import nnx

from rlaifv_jax.data.tiles import Tiles
from rlaifv_jax.models.eva02 import Eva02, Eva02Config
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.models.resampler import ResamplerConfig, SquareResampler
from rlaifv_jax.models.seeing import SeeingConfig, SeeingModel


@dataclass(frozen=True)
class OmniLmmConfig(SeeingConfig):
    vision: Eva02Config
    resampler: ResamplerConfig

    @property
    def tile_tokens(self) -> int:
        return self.resampler.queries

    @property
    def connector_flops(self) -> float:
        return self.resampler.flops(self.vision.patches)


class OmniLmm(SeeingModel):
    def __init__(self, config: OmniLmmConfig, *, rngs: nnx.Rngs):
        self.vision = Eva02(config.vision, rngs=rngs)
        self.resampler = SquareResampler(config.resampler, rngs=rngs)
        super().__init__(config, rngs=rngs)

    def image_features(self, tiles: Tiles, compute: Compute) -> jax.Array:
        """N squares → [N, Q, D], one embedding a query."""
        pixels = self.normalized(tiles.pixels).astype(self.vision.patch.dtype)
        return self.resampler(self.vision(pixels, compute))
