"""The small files of an exported model: config, processor, generation settings, chat template, tokenizer."""

import json
import shutil
from pathlib import Path
from typing import Any

from convert.load import StoredModel
from convert.tokenizer_json import write_fast_tokenizer
from rlaifv_jax.cli import say
from rlaifv_jax.data.templates import TEMPLATES, Template
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.families import LLAVA
from rlaifv_jax.models.hf_config import CLIP_L_336, KNOWN_TOWERS, Json, Section, tower_config

OPENAI_TOWER = "openai/clip-vit-large-patch14-336"


def write_files(
    source: StoredModel, folder: Path, layout: str, rows: int, dtype: str, template: str | None, tower: bool
) -> None:
    """Everything but weights. Within a layout files are copied and gaps filled, between layouts they are made anew.

    rows: vocabulary of the exported model. tower: whether the image tower is among the weights.
    """
    stored = stored_dtype(source) if dtype == "keep" else dtype
    original = layout == "original"
    copied = not source.family.sees or (source.source_layout == "original") == original
    if copied:
        for file in source.assets:
            shutil.copyfile(file, folder / file.name)
        config = dict(source.raw_config)
        config |= {key: stored for key in ("torch_dtype", "dtype") if config.get(key) is not None}
        if original and tower and source.family is LLAVA and not names_its_tower(source):
            config["vision_config"] = _vision_fields(source)
        if config != source.raw_config:
            _write(folder / "config.json", config)
        image = source.raw_config.get("image_token_index", source.raw_config.get("image_token_id"))
    else:
        image = source.config.decoder.vocab_size
        _write(
            folder / "config.json",
            original_config(source, rows, stored) if original else llava_hf_config(source, rows, stored),
        )
    if source.family is not LLAVA:
        return  # what others need has come with them
    try:
        _fill_gaps(source, folder, original, image, template)
    except UserError as error:
        if not copied:
            raise
        say(f"note: {error}; the export has the tokenizer files that the source had")


def _fill_gaps(source: StoredModel, folder: Path, original: bool, image: int | None, template: str | None) -> None:
    """Make whichever of processor, generation settings, chat template and tokenizer is not in `folder` yet.

    image: id of the `<image>` token of transformers' layout.
    """

    def lacks(*names: str) -> bool:
        return not any((folder / name).exists() for name in names)

    pad = 0 if original or image is None else image + 1
    if lacks("preprocessor_config.json", "processor_config.json"):
        _write(folder / "preprocessor_config.json", _preprocessor(source))
    if lacks("generation_config.json"):
        _write(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": pad})
    if original:
        if lacks("tokenizer.model", "tokenizer.json"):
            _original_tokenizer(source, folder)
        return
    if lacks("processor_config.json"):
        _write(folder / "processor_config.json", _processor(source))
    if lacks("chat_template.jinja", "chat_template.json"):
        name = template or source.template or next(iter(TEMPLATES))
        if name not in TEMPLATES:
            raise UserError(f"--template: {name} cannot be written in Jinja; choose one of: {', '.join(TEMPLATES)}")
        (folder / "chat_template.jinja").write_text(chat_template(TEMPLATES[name]))
    if lacks("tokenizer.json"):
        model = source.directory / "tokenizer.model"
        if model.exists() and image is not None:
            write_fast_tokenizer(model, folder, image)
        else:
            say(f"note: {source.directory} has no tokenizer.model, so the export has no tokenizer")


def names_its_tower(source: StoredModel) -> bool:
    """Whether a config of the original code tells the sizes of the tower that goes with these weights."""
    raw, sizes = source.raw_config, source.config.vision
    told = raw.get("vision_config") or KNOWN_TOWERS.get(raw.get("mm_vision_tower", ""))
    return told is not None and tower_config(Section(told, ""), sizes.feature_layer, "") == sizes


def stored_dtype(source: StoredModel) -> str:
    """The dtype that most of a decoder is in, by the name Hugging Face uses."""
    return source.leaves["decoder/layers/mlp/up/kernel"].dtype.name


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
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
        "torch_dtype": dtype,
    }


def _vision_fields(source: StoredModel) -> Json:
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
    vision = _vision_fields(source)
    return {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava_llama",
        **_text_fields(source, rows, dtype),
        "pad_token_id": 0,
        "image_aspect_ratio": "pad",
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


def llava_hf_config(source: StoredModel, rows: int, dtype: str) -> Json:
    """config.json of transformers' LlavaForConditionalGeneration."""
    image = source.config.decoder.vocab_size
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
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
        "vision_config": _vision_fields(source),
        "vision_feature_layer": source.config.vision.feature_layer,
        "vision_feature_select_strategy": "default",
    }


def _preprocessor(source: StoredModel) -> Json:
    size = source.config.vision.image_size
    return {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "LlavaProcessor",
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


def _processor(source: StoredModel) -> Json:
    return {
        "processor_class": "LlavaProcessor",
        "image_token": "<image>",
        "num_additional_image_tokens": 1,
        "patch_size": source.config.vision.patch_size,
        "vision_feature_select_strategy": "default",
    }


def chat_template(template: Template) -> str:
    """The conversation template in Jinja: messages of text, or of lists of 'image' and 'text' parts."""
    return (
        f"{template.system}{template.gap}"
        "{% for message in messages %}{% if message['role'] == 'user' %}"
        f"{template.user}: {{% else %}}{template.assistant}: {{% endif %}}"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\\n' }}{% endfor %}"
        "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] }}{% endfor %}"
        "{% endif %}{% if message['role'] == 'user' %}"
        f"{{{{ '{template.gap}' }}}}{{% else %}}{template.end}{{% endif %}}"
        "{% endfor %}"
        f"{{% if add_generation_prompt %}}{template.assistant}:{{% endif %}}"
    )


def _original_tokenizer(source: StoredModel, folder: Path) -> None:
    model = source.directory / "tokenizer.model"
    if not model.exists():
        say(f"note: {source.directory} has no tokenizer.model, so the export has no tokenizer")
        return
    shutil.copyfile(model, folder / "tokenizer.model")
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    _write(folder / "special_tokens_map.json", special)
    settings: dict[str, Any] = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "legacy": True,
        "model_max_length": 2048,
        "padding_side": "right",
    }
    _write(folder / "tokenizer_config.json", settings | special)


def _write(file: Path, values: Json) -> None:
    file.write_text(json.dumps(values, indent=2) + "\n")
