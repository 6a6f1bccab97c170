"""Tiny models before they have learnt a word: their sizes, random weights, and the directories that hold them."""

import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convert.orbax_dir import Notes, save_params, write_assets
from rlaifv_jax.models.blueprint import Blueprint, Params, blueprint, flat, nested
from rlaifv_jax.models.families import LLAVA, Family
from rlaifv_jax.models.hf_config import CLIP_MEAN, CLIP_STD
from rlaifv_jax.models.resampler import sin_cos
from rlaifv_jax.shapes.tokenizer import LLAVA_LANGUAGE, OMNILMM_LANGUAGE, write_tokenizer
from rlaifv_jax.shapes.tower import teach_to_see

VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,  # LLaVA reads the last but one, as in the 7B: the third is never computed
    "num_attention_heads": 2,
    "image_size": 48,
    "patch_size": 16,
    "layer_norm_eps": 1e-5,
    "hidden_act": "quick_gelu",
    "projection_dim": 64,
}
CONFIG: dict[str, Any] = {
    "architectures": ["LlavaLlamaForCausalLM"],
    "model_type": "llava_llama",
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000.0,
    "max_position_embeddings": 2048,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "image_aspect_ratio": "pad",
    "mm_hidden_size": 64,
    "mm_projector_type": "mlp2x_gelu",
    "mm_use_im_patch_token": False,
    "mm_use_im_start_end": False,
    "mm_vision_select_feature": "patch",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": None,
    "use_mm_proj": True,
    "vision_config": VISION,
}


OMNILMM_VISION = {
    "model_type": "eva02",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,  # positions of four cells, spread over nine
    "patch_size": 16,
    "layer_norm_eps": 1e-6,
}
OMNILMM_CONFIG: dict[str, Any] = {
    "architectures": ["OmniLMMForCausalLM"],
    "model_type": "omnilmm",
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "rope_theta": 1000.0,
    "sliding_window": 1024,
    "max_position_embeddings": 2048,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 2,
    "torch_dtype": "float32",
    "image_size": 48,
    "num_query": 9,
    "mm_use_im_start_end": True,
    "mm_vision_tower": None,
    "vision_config": OMNILMM_VISION,
}

LAYERS: int = CONFIG["num_hidden_layers"]
LABELER_LAYERS = 5  # three can caption, and never learn to compare a shape with what a question says


def write_start(directory: Path, seed: int, layers: int = LAYERS, family: Family = LLAVA, steps: int = 300) -> float:
    """Write a model whose tower sees, after so many steps, and whose decoder, of so many layers, knows nothing.

    Returns the tower's accuracy on cells, see `teach_to_see`.
    """
    plan = write_directory(directory, layers, family)
    params, accuracy = teach_to_see(
        plan, random_weights(plan.shapes, seed), seed, frozen=family.never_trained, steps=steps
    )
    save_params(directory, params)
    return accuracy


def write_directory(directory: Path, layers: int = LAYERS, family: Family = LLAVA) -> Blueprint:
    """Write config, tokenizer and notes; `convert.orbax_dir.save_params` of weights completes the model."""
    directory.mkdir(parents=True, exist_ok=True)
    raw, language = (CONFIG, LLAVA_LANGUAGE) if family is LLAVA else (OMNILMM_CONFIG, OMNILMM_LANGUAGE)
    raw = {**raw, "num_hidden_layers": layers, "vocab_size": write_tokenizer(directory, language)}
    file, tower = directory / "config.json", raw["vision_config"]
    file.write_text(json.dumps(raw, indent=2) + "\n")
    write_assets(directory, [], Notes(family.name, "original", "inside", family.template or None, tower))
    return blueprint(family.module, family.parse(raw, str(file), tower, (CLIP_MEAN, CLIP_STD)))


def random_weights(shapes: Params, seed: int) -> Params:
    """Weights for training from nothing: kernels normal with variance 1/fan-in, norms 1, biases 0.

    The layers' own initialisation (0.02 throughout) suits widths of thousands; here it would start too flat.
    """
    leaves = {}
    for number, (path, leaf) in enumerate(sorted(flat(shapes).items())):
        key = jax.random.fold_in(jax.random.key(seed), number)
        if path == "resampler/position":
            leaves[path] = sin_cos(math.isqrt(leaf.shape[0]), leaf.shape[1])
        elif path.endswith(("/scale", "/bias", "/patch_bias")):
            leaves[path] = jnp.full(leaf.shape, float(path.endswith("/scale")))
        else:
            leaves[path] = _deviation(path, leaf.shape) * jax.random.normal(key, leaf.shape)
    return nested(leaves)


def _deviation(path: str, shape: tuple[int, ...]) -> float:
    if path == "decoder/embedding":
        return 0.5  # of the order of what the layers add to it, or words drown in each other
    if path.endswith("/kernel"):
        return float(shape[-2]) ** -0.5
    return float(np.prod(shape[:-1])) ** -0.5 if path.endswith("/patch") else 0.02
