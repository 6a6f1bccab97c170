"""LLaVA-1.5 (arXiv 2310.03744): CLIP tower, projector, Llama decoder. Composition only, no arithmetic of its own."""

from dataclasses import dataclass
from typing import ClassVar

import jax
from flax import nnx

from rlaifv_jax.data.tiles import Tiles
from rlaifv_jax.models.clip_vit import ClipVit, ClipVitConfig
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.models.projector import MlpProjector
from rlaifv_jax.models.seeing import SeeingConfig, SeeingModel


@dataclass(frozen=True)
class LlavaConfig(SeeingConfig):
    vision: ClipVitConfig

    @property
    def tile_tokens(self) -> int:
        return self.vision.patches

    @property
    def connector_flops(self) -> float:
        return 2.0 * self.tile_tokens * (self.vision.width * self.decoder.width + self.decoder.width**2)


class Llava(SeeingModel):
    connector: ClassVar[type[MlpProjector]] = MlpProjector

    def __init__(self, config: LlavaConfig, *, rngs: nnx.Rngs):
        self.vision = ClipVit(config.vision, rngs=rngs)
        self.projector = self.connector(config.vision.width, config.decoder.width, rngs=rngs)
        super().__init__(config, rngs=rngs)

    def image_features(self, tiles: Tiles, compute: Compute) -> jax.Array:
        """N squares → [N, P, D], one embedding a patch."""
        pixels = self.normalized(tiles.pixels).astype(self.vision.patch.dtype)
        return self.projector(self.vision(pixels, compute))
