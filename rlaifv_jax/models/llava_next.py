"""LLaVA-NeXT (LLaVA v1.6): LLaVA that sees a picture as several tiles, whose features end in a learnt embedding line by
line (`anyres` and `spatial_unpad` of llava/model/llava_arch.py)."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from rlaifv_jax.data.anyres import AnyRes
from rlaifv_jax.data.images import SQUARES
from rlaifv_jax.data.tiles import NEWLINE, ImageProcessor, Size
from rlaifv_jax.models.llava import Llava, LlavaConfig
from rlaifv_jax.models.projector import NewlineProjector


@dataclass(frozen=True)
class LlavaNextConfig(LlavaConfig):
    """canvases: sizes that pictures are laid on, in pixels."""

    canvases: tuple[Size, ...]

    aspect_ratios: ClassVar[tuple[str, ...]] = ("anyres", *SQUARES)

    def _processor(self, aspect_ratio: str) -> ImageProcessor:
        """As a square, a picture is one tile without newlines."""
        if aspect_ratio == "anyres":
            return AnyRes(self.vision.image_size, self.vision.patch_size, self.canvases)
        return super()._processor(aspect_ratio)


class LlavaNext(Llava):
    config: LlavaNextConfig
    projector: NewlineProjector
    connector = NewlineProjector

    def place(self, x: jax.Array, features: jax.Array, patches: jax.Array) -> jax.Array:
        """Of Llava, and the newline at its places."""
        newline = self.projector.newline[...].astype(x.dtype)
        return super().place(jnp.where((patches == NEWLINE)[..., None], newline, x), features, patches)
