"""What is published of the models and the data of RLAIF-V, as far as planning needs it: sizes and lengths.

For work without the weights and the pairs at hand: compiling ahead of time, benchmarks, tests of packing.
"""

from typing import Any

import numpy as np

from rlaifv_jax.data.packing import Sizes
from rlaifv_jax.data.tiles import ImageProcessor, Placement
from rlaifv_jax.models.families import Family, family_of
from rlaifv_jax.models.hf_config import KNOWN_TOWERS

IMAGE_TOKENS = 576
PICTURE = (640, 480)  # width and height of a typical picture, as COCO has them


def _llava(width: int, mlp_width: int, layers: int, heads: int) -> dict[str, Any]:
    """config.json of a LLaVA in the original's form."""
    return {
        "model_type": "llava_llama",
        "hidden_size": width,
        "intermediate_size": mlp_width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "vocab_size": 32000,
        "rms_norm_eps": 1e-5,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_tower": "openai/clip-vit-large-patch14-336",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
    }


_7B, _13B = _llava(4096, 11008, 32, 32), _llava(5120, 13824, 40, 40)
_ANYRES: dict[str, Any] = {  # what LLaVA-NeXT does otherwise
    "image_aspect_ratio": "anyres",
    "mm_patch_merge_type": "spatial_unpad",
    "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
}
_34B = _llava(7168, 20480, 60, 56) | _ANYRES | {"num_key_value_heads": 8, "vocab_size": 64000, "rope_theta": 5e6}
_12B: dict[str, Any] = {
    "model_type": "omnilmm",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32009,
    "rms_norm_eps": 1e-5,
    "sliding_window": 4096,
    "num_query": 256,
    "image_size": 448,
    "mm_use_im_start_end": True,
    "mm_vision_tower": "eva02_enormous_patch14_clip_224.laion2b_plus",
}
_MUFFIN: dict[str, Any] = {
    "model_type": "beit3_llava",
    "hidden_size": 5120,
    "intermediate_size": 13824,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "vocab_size": 32004,
    "rms_norm_eps": 1e-6,
    "num_query": 64,
    "mm_use_im_start_end": True,
    "mm_vision_tower": "beit3_large_patch16_448",
}
LLAMA3_8B: dict[str, Any] = {  # what the published split and question models are
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
}
_MINICPM: dict[str, Any] = LLAMA3_8B | {
    "model_type": "minicpmv",
    "query_num": 96,
    "drop_vision_last_layer": False,
    "slice_mode": True,
    "slice_config": {"max_slice_nums": 9, "patch_size": 14},
    "vision_config": {
        "model_type": "idefics2",
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_hidden_layers": 27,
        "num_attention_heads": 16,
        "image_size": 980,
        "patch_size": 14,
    },
}
MODELS: dict[str, dict[str, Any]] = {
    "liuhaotian/llava-v1.5-7b": _7B,
    "liuhaotian/llava-v1.5-13b": _13B,
    "liuhaotian/llava-v1.6-vicuna-7b": _7B | _ANYRES,
    "liuhaotian/llava-v1.6-vicuna-13b": _13B | _ANYRES,
    "liuhaotian/llava-v1.6-34b": _34B,
    "openbmb/RLAIF-V-7B": _7B,
    "openbmb/OmniLMM-12B": _12B,
    "openbmb/RLAIF-V-12B": _12B,
    "openbmb/RLHF-V": _MUFFIN,
    "Yirany/RLHF-V_v0_SFT": _MUFFIN,  # assumed: RLHF-V starts from it
    "openbmb/MiniCPM-Llama3-V-2_5": _MINICPM,
    "Yirany/Muffin-13B": _MUFFIN | {"mm_vision_tower": "beit3_large_patch16_672"},
}


def sizes_of(path: str) -> tuple[Family, Any] | None:
    """Family and config of a published model by its hub id; None for any other."""
    if path not in MODELS:
        return None
    raw = MODELS[path]
    family = family_of(raw, path)
    tower = raw.get("vision_config") or KNOWN_TOWERS[raw["mm_vision_tower"]]
    return family, family.parse(raw, path, tower, family.statistics)


def picture(config: Any) -> Placement | None:
    """What a typical picture becomes for a model of this config; None for one that sees nothing."""
    processor: ImageProcessor | None = config.processor("")
    return None if processor is None else processor.placement(PICTURE)


def lengths(count: int, seed: int = 0, kind: str = "normal") -> Sizes:
    """Lengths like those of RLAIF-V-Dataset: an image, 60 ± 12 tokens of prompt, two answers of 75 ± 55, 362 at most.

    kind: how answers spread about their mean, 'normal' (cut at 1) or the long-tailed 'gamma'.
    """
    chance = np.random.default_rng(seed)
    prompts = np.clip(chance.normal(60, 12, count).round(), 20, None)
    shape = (75 / 55) ** 2
    drawn = chance.normal(75, 55, (count, 2)) if kind == "normal" else chance.gamma(shape, 75 / shape, (count, 2))
    answers = np.clip(drawn.round(), 1, 362)
    tokens = (IMAGE_TOKENS + prompts + answers.sum(1)).astype(np.int64)
    return Sizes(tokens, answers.sum(1).astype(np.int64), np.ones(count, np.int64))
