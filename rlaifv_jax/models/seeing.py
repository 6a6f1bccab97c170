"""A language model that sees: features of pictures stand in the row in place of embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rlaifv_jax.data.batch import Batch
from rlaifv_jax.models.decoder import DecoderConfig
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.models.text import TextModel
from rlaifv_jax.models.vit import VitConfig
from rlaifv_jax.parallel import constrain


@dataclass(frozen=True)
class SeeingConfig:
    """What the configs of such models have in common.

    image_mean, image_std: those of the checkpoint's image processor, per RGB channel in 0…1. image_size: pixels along
    an edge. image_tokens: embeddings that a picture becomes. connector_flops: of what makes them from the tower's
    features, forward, for one image.
    """

    vision: VitConfig
    decoder: DecoderConfig
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]

    @property
    def image_size(self) -> int:
        return self.vision.image_size

    @property
    def image_tokens(self) -> int:
        raise NotImplementedError

    @property
    def connector_flops(self) -> float:
        raise NotImplementedError


class SeeingModel(TextModel):
    """A subclass says what becomes of pixels: `image_features`."""

    config: SeeingConfig

    def image_features(self, images: jax.Array, compute: Compute) -> jax.Array:
        """uint8[N, height, width, 3] → [N, P, D] embeddings that stand in the row in place of an image."""
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
        images = constrain(batch.images.reshape(rows * count, *batch.images.shape[2:]), "batch", None, None, None)
        features = self.image_features(images, compute).reshape(rows, -1, x.shape[-1])  # [B, I·P, D]
        placed = jnp.take_along_axis(features, jnp.maximum(batch.patches, 0)[..., None], axis=1)  # [B, T, D]
        x = jnp.where((batch.patches >= 0)[..., None], placed, x)
        return constrain(x, "batch", None, None)


def normalize(images: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """uint8[..., 3] → float32[..., 3], scaled to 0…1 and normalised by channel, as CLIP's image processor does."""
    return (images.astype(jnp.float32) / 255 - jnp.array(mean)) / jnp.array(std)
