"""A language model that sees: features of pictures stand in the row in place of embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from rlaifv_jax.data.batch import Batch
from rlaifv_jax.data.images import SQUARES
from rlaifv_jax.data.square import Square
from rlaifv_jax.data.tiles import ImageProcessor, Tile, Tiles
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.decoder import DecoderConfig
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.models.text import TextModel
from rlaifv_jax.models.vit import VitConfig
from rlaifv_jax.parallel import constrain


@dataclass(frozen=True)
class SeeingConfig:
    """What the configs of such models have in common.

    image_mean, image_std: those of the checkpoint's image processor, per RGB channel in 0…1. tile_tokens: embeddings
    that a tile becomes (rlaifv_jax.data.tiles). connector_flops: of what makes them from the tower's features, forward,
    for one tile.
    """

    vision: VitConfig
    decoder: DecoderConfig
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]

    aspect_ratios: ClassVar[tuple[str, ...]] = SQUARES

    @property
    def tile_tokens(self) -> int:
        raise NotImplementedError

    @property
    def tile(self) -> Tile:
        edge = self.vision.image_size
        return Tile((edge, edge, 3), self.tile_tokens)

    def processor(self, aspect_ratio: str) -> ImageProcessor:
        """aspect_ratio: how pictures become tiles, one of `aspect_ratios`; '': the first of them.

        Raises:
          UserError: a name that the model does not know.
        """
        if aspect_ratio not in ("", *self.aspect_ratios):
            raise UserError(f"image_aspect_ratio is {aspect_ratio!r}; this model knows {', '.join(self.aspect_ratios)}")
        return self._processor(aspect_ratio or self.aspect_ratios[0])

    def _processor(self, aspect_ratio: str) -> ImageProcessor:
        return Square(self.tile, aspect_ratio, self.image_mean)

    @property
    def connector_flops(self) -> float:
        raise NotImplementedError


class SeeingModel(TextModel):
    """A subclass says what becomes of pixels: `image_features`."""

    config: SeeingConfig

    def image_features(self, tiles: Tiles, compute: Compute) -> jax.Array:
        """N tiles → [N, P, D] embeddings that stand in the row in place of an image."""
        raise NotImplementedError

    def normalized(self, images: jax.Array) -> jax.Array:
        """What a tower takes of pictures, float32."""
        return normalize(images, self.config.image_mean, self.config.image_std)

    def embed(self, batch: Batch, compute: Compute) -> jax.Array:
        """Rows → embeddings [B, T, D], those of images in their places."""
        x = super().embed(batch, compute)  # [B, T, D]
        rows, count = batch.images.shape[:2]
        if count == 0:
            return x
        tiles = Tiles(*(constrain(_merged(leaf), "batch", *(None,) * (leaf.ndim - 2)) for leaf in batch.tiles))
        features = self.image_features(tiles, compute).reshape(rows, -1, x.shape[-1])  # [B, I·P, D]
        return constrain(self.place(x, features, batch.patches), "batch", None, None)

    def place(self, x: jax.Array, features: jax.Array, patches: jax.Array) -> jax.Array:
        """Features [B, I·P, D] of the rows' tiles into embeddings [B, T, D], by `Batch.patches`."""
        placed = jnp.take_along_axis(features, jnp.maximum(patches, 0)[..., None], axis=1)  # [B, T, D]
        return jnp.where((patches >= 0)[..., None], placed, x)


def _merged(leaf: jax.Array) -> jax.Array:
    """[B, I, …] → [B·I, …]"""
    return leaf.reshape(-1, *leaf.shape[2:])


def normalize(images: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """uint8[..., 3] → float32[..., 3], scaled to 0…1 and normalised by channel, as CLIP's image processor does."""
    return (images.astype(jnp.float32) / 255 - jnp.array(mean)) / jnp.array(std)
