"""config.json and processor files of an exported LLaVA-1.5 or LLaVA-NeXT, as the original code writes them or as
transformers does."""

from typing import NamedTuple

from convert.load import StoredModel
from rlaifv_jax.data.tokenizer import is_tokenizer, load_tokenizer
from rlaifv_jax.models.hf_config import CLIP_L_336, Json, read_json
from rlaifv_jax.models.llava_next import LlavaNextConfig

OPENAI_TOWER = "openai/clip-vit-large-patch14-336"


class Kind(NamedTuple):
    """What transformers calls a family and the classes that open it."""

    model_type: str
    architecture: str
    processor: str
    image_processor: str


KINDS = {
    "llava": Kind("llava", "LlavaForConditionalGeneration", "LlavaProcessor", "CLIPImageProcessor"),
    "llava_next": Kind(
        "llava_next", "LlavaNextForConditionalGeneration", "LlavaNextProcessor", "LlavaNextImageProcessor"
    ),
}


def stored_dtype(source: StoredModel) -> str:
    """The dtype that most of a decoder is in, by the name Hugging Face uses."""
    return source.leaves["decoder/layers/mlp/up/kernel"].dtype.name


def named_ids(source: StoredModel) -> Json:
    """Ids of BOS and of what ends an answer, from the first that says it: generation_config.json, config.json, the
    tokenizer, LLaMA."""
    raw, file = source.raw_config, source.directory / "generation_config.json"
    said = raw | (raw.get("text_config") or {}) | (read_json(file) if file.exists() else {})
    end = load_tokenizer(source.directory).eos_id if is_tokenizer(source.directory) else 2
    otherwise = {"bos_token_id": 1, "eos_token_id": end}
    return {key: otherwise[key] if said.get(key) is None else said[key] for key in otherwise}


def _text_fields(source: StoredModel, rows: int, dtype: str) -> Json:
    sizes = source.config.decoder
    raw = source.raw_config
    text = raw.get("text_config", raw)
    return {
        "vocab_size": rows,
        "hidden_size": sizes.width,
        "intermediate_size": sizes.mlp_width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": sizes.rms_eps,
        "rope_theta": sizes.rope_theta,
        "max_position_embeddings": text.get("max_position_embeddings", 4096),
        **named_ids(source),
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
    }


def vision_fields(source: StoredModel) -> Json:
    sizes = source.config.vision
    return {
        "model_type": "clip_vision_model",
        "hidden_size": sizes.width,
        "intermediate_size": sizes.mlp_width,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "image_size": sizes.image_size,
        "patch_size": sizes.patch_size,
        "layer_norm_eps": sizes.norm_eps,
        "hidden_act": "quick_gelu",
        "projection_dim": source.notes.vision_config.get("projection_dim", CLIP_L_336["projection_dim"]),
    }


def original_config(source: StoredModel, rows: int, dtype: str) -> Json:
    """config.json as the original code writes it, with the tower's sizes added for ours."""
    vision, tiled = vision_fields(source), _canvases(source)
    anyres = {"mm_patch_merge_type": "spatial_unpad", "image_grid_pinpoints": tiled} if tiled else {}
    return {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava_llama",
        **_text_fields(source, rows, dtype),
        "pad_token_id": 0,
        "image_aspect_ratio": "anyres" if tiled else "pad",
        **anyres,
        "mm_hidden_size": source.config.vision.width,
        "mm_projector_type": "mlp2x_gelu",
        "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False,
        "mm_vision_select_feature": "patch",
        "mm_vision_select_layer": source.config.vision.feature_layer,
        "mm_vision_tower": OPENAI_TOWER if vision == CLIP_L_336 else None,
        "use_mm_proj": True,
        "vision_config": vision,
    }


def _canvases(source: StoredModel) -> list[list[int]]:
    """Width and height of each; none for a model that makes one tile of every picture."""
    config = source.config
    return [list(size) for size in config.canvases] if isinstance(config, LlavaNextConfig) else []


def _pinpoints(source: StoredModel) -> Json:
    """The same as transformers has it, height first."""
    found = _canvases(source)
    return {"image_grid_pinpoints": [size[::-1] for size in found]} if found else {}


def llava_hf_config(source: StoredModel, rows: int, dtype: str) -> Json:
    """config.json of transformers' class of the family."""
    image, kind = source.config.decoder.vocab_size, KINDS[source.family.name]
    return {
        "architectures": [kind.architecture],
        "model_type": kind.model_type,
        **_pinpoints(source),
        "image_seq_length": source.config.vision.patches,
        "image_token_index": image,
        "pad_token_id": image + 1,
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": True,
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
        "text_config": {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **_text_fields(source, rows, dtype),
        },
        "vision_config": vision_fields(source),
        "vision_feature_layer": source.config.vision.feature_layer,
        "vision_feature_select_strategy": "default",
    }


def preprocessor(source: StoredModel, original: bool) -> Json:
    """preprocessor_config.json; the original's is CLIP's, whatever it makes of pictures before."""
    size, kind = source.config.vision.image_size, KINDS["llava" if original else source.family.name]
    return {
        "image_processor_type": kind.image_processor,
        "processor_class": kind.processor,
        **({} if original else _pinpoints(source)),
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(source.config.image_mean),
        "image_std": list(source.config.image_std),
    }


def processor(source: StoredModel) -> Json:
    """processor_config.json of transformers."""
    return {
        "processor_class": KINDS[source.family.name].processor,
        "image_token": "<image>",
        "num_additional_image_tokens": 1,
        "patch_size": source.config.vision.patch_size,
        "vision_feature_select_strategy": "default",
    }
