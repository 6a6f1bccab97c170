"""The tiny LLaVA before it has learnt a word: its sizes, random weights, and the directory that holds it."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convert.orbax_dir import Notes, save_params, write_assets
from rlaifv_jax.models.blueprint import Blueprint, Params, blueprint, flat, nested
from rlaifv_jax.models.families import LLAVA
from rlaifv_jax.models.hf_config import CLIP_MEAN, CLIP_STD
from rlaifv_jax.shapes.tokenizer import write_tokenizer
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


LAYERS: int = CONFIG["num_hidden_layers"]
LABELER_LAYERS = 5  # three can caption, and never learn to compare a shape with what a question says


def write_start(directory: Path, seed: int, layers: int = LAYERS) -> float:
    """Write a model whose tower sees and whose decoder, of so many layers, knows nothing.

    Returns the tower's accuracy on cells, see `teach_to_see`.
    """
    plan = write_directory(directory, layers)
    params, accuracy = teach_to_see(plan, random_weights(plan.shapes, seed), seed)
    save_params(directory, params)
    return accuracy


def write_directory(directory: Path, layers: int = LAYERS) -> Blueprint:
    """Write config, tokenizer and notes; `convert.orbax_dir.save_params` of weights completes the model."""
    directory.mkdir(parents=True, exist_ok=True)
    raw = {**CONFIG, "num_hidden_layers": layers, "vocab_size": write_tokenizer(directory)}
    (directory / "config.json").write_text(json.dumps(raw, indent=2) + "\n")
    write_assets(directory, [], Notes(LLAVA.name, "original", "inside", "llava_v1", VISION))
    return blueprint(LLAVA.module, LLAVA.parse(raw, str(directory / "config.json"), None, (CLIP_MEAN, CLIP_STD)))


def random_weights(shapes: Params, seed: int) -> Params:
    """Weights for training from nothing: kernels normal with variance 1/fan-in, norms 1, biases 0.

    The layers' own initialisation (0.02 throughout) suits widths of thousands; here it would start too flat.
    """
    leaves = {}
    for number, (path, leaf) in enumerate(sorted(flat(shapes).items())):
        key = jax.random.fold_in(jax.random.key(seed), number)
        if path.endswith(("/scale", "/bias")):
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
