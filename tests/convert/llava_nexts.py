"""A tiny LLaVA-NeXT with random weights, written to disk in every form that exists in the wild."""

from typing import Any, ClassVar

from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration

from tests.convert.llavas import TinyLlava

CANVASES = ((56, 112), (112, 56), (112, 112), (168, 56))  # width and height; no mirror image of itself


class TinyLlavaNext(TinyLlava):
    """Sixteen patches a tile, up to five tiles an image; the rotary base of Yi."""

    image_size = 56
    pictures: ClassVar[dict[str, Any]] = {
        "image_aspect_ratio": "anyres",
        "mm_patch_merge_type": "spatial_unpad",
        "image_grid_pinpoints": [list(size) for size in CANVASES],
    }

    def __init__(self, kv_heads: int = 2, vocab: int = 99, theta: float = 5e6, seed: int = 0):
        super().__init__(kv_heads, vocab, theta, seed)

    @staticmethod
    def make(**config: Any) -> Any:
        pinpoints = [[height, width] for width, height in CANVASES]
        return LlavaNextForConditionalGeneration(LlavaNextConfig(**config, image_grid_pinpoints=pinpoints))
