"""LLaVA-1.5 (arXiv 2310.03744): CLIP tower, projector, Llama decoder. Composition only, no arithmetic of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from rlaifv_jax.data.batch import Batch
from rlaifv_jax.models.clip_vit import ClipVit, ClipVitConfig
from rlaifv_jax.models.decoder import DecoderConfig
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.models.projector import MlpProjector
from rlaifv_jax.models.text import TextModel
from rlaifv_jax.parallel import constrain


@dataclass(frozen=True)
class LlavaConfig:
    """`image_mean` and `image_std` are those of the checkpoint's image processor, per RGB channel in 0…1."""

    vision: ClipVitConfig
    decoder: DecoderConfig
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]

    @property
    def image_size(self) -> int:
        return self.vision.image_size

    @property
    def image_tokens(self) -> int:
        return self.vision.patches


def normalize(images: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
    """uint8[..., 3] → float32[..., 3], scaled to 0…1 and normalised by channel, as CLIP's image processor does."""
    return (images.astype(jnp.float32) / 255 - jnp.array(mean)) / jnp.array(std)


class Llava(TextModel):
    def __init__(self, config: LlavaConfig, *, rngs: nnx.Rngs):
        self.vision = ClipVit(config.vision, rngs=rngs)
        self.projector = MlpProjector(config.vision.width, config.decoder.width, rngs=rngs)
        super().__init__(config, rngs=rngs)

    def image_features(self, images: jax.Array, compute: Compute) -> jax.Array:
        """uint8[N, height, width, 3] → [N, P, D] embeddings that stand in the row in place of an image."""
        pixels = normalize(images, self.config.image_mean, self.config.image_std)
        return self.projector(self.vision(pixels.astype(self.vision.patch.dtype), compute))

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
