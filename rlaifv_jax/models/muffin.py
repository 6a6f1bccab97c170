"""Muffin-13B and RLHF-V-13B: BEiT-3 with queries, a linear map, Llama decoder. Composition only, no arithmetic of its
own."""

from dataclasses import dataclass

import jax
from flax import nnx

from rlaifv_jax.data.tiles import Tiles
from rlaifv_jax.models.beit3 import Beit3, Beit3Config
from rlaifv_jax.models.layers import Compute, Linear
from rlaifv_jax.models.seeing import SeeingConfig, SeeingModel


@dataclass(frozen=True)
class MuffinConfig(SeeingConfig):
    vision: Beit3Config

    @property
    def tile_tokens(self) -> int:
        return self.vision.queries

    @property
    def connector_flops(self) -> float:
        return 2.0 * self.tile_tokens * self.vision.width * self.decoder.width


class Muffin(SeeingModel):
    def __init__(self, config: MuffinConfig, *, rngs: nnx.Rngs):
        self.vision = Beit3(config.vision, rngs=rngs)
        self.projector = Linear(config.vision.width, config.decoder.width, (None, "embed"), bias=True, rngs=rngs)
        super().__init__(config, rngs=rngs)

    def image_features(self, tiles: Tiles, compute: Compute) -> jax.Array:
        """N squares → [N, Q, D], one embedding a query."""
        pixels = self.normalized(tiles.pixels).astype(self.vision.image.patch.dtype)
        return self.projector(self.vision(pixels, compute))
