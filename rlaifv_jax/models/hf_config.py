"""Hugging Face config.json, read as the JSON it is: sizes of decoders and towers, image statistics.

Class defaults of transformers change with its versions, so the values that files leave out are written here.
A setting that this project does not compute is an error naming file, key and value, never ignored.
"""

import json
import sys
from dataclasses import dataclass
from typing import Any

from etils import epath

from rlaifv_jax.data.images import CLIP_MEAN, MAX_PIXELS
from rlaifv_jax.errors import UserError, shortened
from rlaifv_jax.models.beit3 import FIRST_POSITION, Beit3Config
from rlaifv_jax.models.clip_vit import ClipVitConfig
from rlaifv_jax.models.decoder import DecoderConfig
from rlaifv_jax.models.eva02 import Eva02Config
from rlaifv_jax.models.siglip import SiglipConfig

Json = dict[str, Any]

Channels = tuple[float, float, float]

# The statistics CLIP was trained with (CLIPImageProcessor), for directories without a processor file.
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
CLIP = (CLIP_MEAN, CLIP_STD)
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # those of BEiT-3 and SigLIP

# vision_config of LLaVA-1.5's tower, for checkpoints that only name it (and LlavaConfig's default tower).
CLIP_L_336: Json = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "layer_norm_eps": 1e-5,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
}
# The same of OmniLMM-12B's tower. Its 64th layer is neither computed nor in the checkpoint.
EVA02_E: Json = {
    "model_type": "eva02",
    "hidden_size": 1792,
    "intermediate_size": 15360,
    "num_hidden_layers": 63,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
}
# The same of Muffin's. max_source_positions, as torchscale calls it: rows of the table of the queries' positions.
BEIT3_L: Json = {
    "model_type": "beit3",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 448,
    "patch_size": 16,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu",
    "max_source_positions": 1024,
}
KNOWN_TOWERS: dict[str, Json] = {
    "openai/clip-vit-large-patch14-336": CLIP_L_336,
    "eva02_enormous_patch14_clip_224.laion2b_plus": EVA02_E,
    "beit3_large_patch16_448": BEIT3_L,
    "beit3_large_patch16_672": BEIT3_L | {"image_size": 672},
}


LARGEST = 2**31 - 1  # what JAX counts with


def read_json(file: Any) -> Json:
    """A JSON object from a local path or a gs:// one. Raises `UserError` naming the file."""
    path = epath.Path(file)
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error}); fetch it again") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _is_number(value: Any) -> bool:
    """A finite one, within what a float can be."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # false of nan


@dataclass(frozen=True)
class Section:
    """One object of a config file, which knows where it stands for the sake of error messages."""

    values: Json
    where: str  # e.g. '/models/llava/config.json: text_config.'

    def __post_init__(self) -> None:
        if not isinstance(self.values, dict):
            raise UserError(f"{self.where.rstrip('.')} is {self.values!r}; an object is needed")

    def get(self, key: str, default: Any) -> Any:
        value = self.values.get(key)
        return default if value is None else value

    def text(self, key: str) -> str | None:
        value = self.get(key, None)
        if not isinstance(value, str | None):
            raise UserError(f"{self.where}{key} is {value!r}; a text is needed")
        return value

    def number(self, key: str, default: float | None = None) -> Any:
        value = self.get(key, default)
        if not _is_number(value) or value <= 0:
            raise UserError(f"{self.where}{key} is {shortened(repr(value))}; a positive number is needed")
        return value

    def count(self, key: str, default: int) -> int:
        """A positive whole number."""
        value = self.number(key, default)
        if value != int(value):
            raise UserError(f"{self.where}{key} is {value!r}; a whole number is needed")
        if value > LARGEST:
            raise UserError(f"{self.where}{key} is {value!r}; no model is so large; it must be at most {LARGEST}")
        return int(value)

    def parts(self, whole: str, size: int, part: str, count: int) -> None:
        """See that `size` (key `whole`) divides into `count` (key `part`)."""
        if size % count:
            raise UserError(f"{self.where}{whole}={size} must be a multiple of {part}={count}")

    def expect(self, key: str, supported: tuple[Any, ...], default: Any = None) -> Any:
        """The value of `key`, which must be one of `supported`."""
        value = self.get(key, default)
        if value not in supported:
            legal = " or ".join(map(repr, supported))
            raise UserError(f"{self.where}{key} is {value!r}, which is not supported; it must be {legal}")
        return value

    def below(self, key: str) -> "Section":
        """The object under `key`; empty when there is none."""
        return Section(self.get(key, {}), f"{self.where}{key}.")


LLAMAS = ("llama", "llava_llama", "llava", "beit3_llava", "minicpmv")  # kinds with the defaults of LlamaConfig
MISTRALS = ("mistral", "omnilmm")  # and of MistralConfig


def decoder_config(section: Section) -> DecoderConfig:
    """Sizes of a LLaMA or Mistral decoder; missing fields are those of transformers' LlamaConfig or MistralConfig."""
    mistral = section.expect("model_type", (*LLAMAS, *MISTRALS), "llama") in MISTRALS
    section.expect("hidden_act", ("silu",), "silu")
    section.expect("attention_bias", (False,), False)
    section.expect("mlp_bias", (False,), False)
    section.expect("tie_word_embeddings", (False,), False)
    width = section.count("hidden_size", 4096)
    heads = section.count("num_attention_heads", 32)
    kv_heads = section.count("num_key_value_heads", 8 if mistral else heads)
    section.parts("num_attention_heads", heads, "num_key_value_heads", kv_heads)
    return DecoderConfig(
        vocab_size=section.count("vocab_size", 32000),
        width=width,
        mlp_width=section.count("intermediate_size", 14336 if mistral else 11008),
        layers=section.count("num_hidden_layers", 32),
        heads=heads,
        kv_heads=kv_heads,
        head_width=section.count("head_dim", width // heads),
        rope_theta=float(_rope_theta(section)),
        rms_eps=float(section.number("rms_norm_eps", 1e-6)),
        window=_window(section) if mistral else None,
    )


def _window(section: Section) -> int | None:
    """Mistral's, which a file can leave out (then it is 4096) or switch off by null."""
    if section.values.get("sliding_window", 0) is None:
        return None
    return section.count("sliding_window", 4096)


def _rope_theta(section: Section) -> float:
    """transformers 4 writes `rope_theta` and `rope_scaling`, transformers 5 `rope_parameters`."""
    for key in ("rope_scaling", "rope_parameters"):
        rope = section.below(key)
        rope.expect("rope_type", ("default",), rope.get("type", "default"))
    return section.below("rope_parameters").number("rope_theta", section.number("rope_theta", 10000.0))


def tower_config(section: Section, feature_layer: Any, where: str) -> ClipVitConfig:
    """Sizes of a CLIP tower; missing fields are those of transformers' CLIPVisionConfig.

    `feature_layer` counts hidden_states as transformers does; `where` names its place in the config file.
    """
    section.expect("model_type", ("clip_vision_model",), "clip_vision_model")
    section.expect("hidden_act", ("quick_gelu",), "quick_gelu")
    section.expect("num_channels", (3,), 3)
    config = ClipVitConfig(**_vit_sizes(section), feature_layer=feature_layer)
    if not isinstance(feature_layer, int) or not 1 <= config.used_layers <= config.layers:
        raise UserError(
            f"{where} is {feature_layer!r}, which is not supported; it must be one layer between "
            f"{-config.layers} and -1, or between 1 and {config.layers}"
        )
    return config


PINPOINTS = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))  # LlavaNextConfig's default


def canvases(section: Section, tile: int) -> tuple[tuple[int, int], ...]:
    """`image_grid_pinpoints`: the sizes of LLaVA-NeXT's canvases, in the file's order of edges.

    Raises `UserError` where they are no pairs of multiples of `tile`, or larger than any picture may be. The original
    also writes them as a text.
    """
    found = section.get("image_grid_pinpoints", PINPOINTS)
    if isinstance(found, str):
        try:
            found = json.loads(found.translate(str.maketrans("()", "[]")))
        except (ValueError, RecursionError):
            found = ()

    def fits(pair: Any) -> bool:
        edges = pair if isinstance(pair, list | tuple) else ()
        multiples = len(edges) == 2 and all(type(edge) is int and edge > 0 and edge % tile == 0 for edge in edges)
        return multiples and edges[0] * edges[1] <= MAX_PIXELS

    if not isinstance(found, list | tuple) or not found or not all(map(fits, found)):
        shown = shortened(repr(section.get("image_grid_pinpoints", PINPOINTS)))
        raise UserError(
            f"{section.where}image_grid_pinpoints is {shown}; pairs of multiples of {tile} are needed, with at most "
            f"{MAX_PIXELS} pixels"
        )
    return tuple((pair[0], pair[1]) for pair in found)


def eva02_config(section: Section, image_size: int) -> Eva02Config:
    """Sizes of an EVA02 tower that sees pictures of `image_size`; its own image_size is what it was pre-trained on."""
    section.expect("model_type", ("eva02",), "eva02")
    section.expect("hidden_act", ("gelu",), "gelu")
    sizes = _vit_sizes(section)
    if image_size % sizes["patch_size"]:
        raise UserError(f"{section.where}patch_size={sizes['patch_size']} must divide image_size={image_size}")
    position_side = sizes["image_size"] // sizes["patch_size"]
    return Eva02Config(**sizes | {"image_size": image_size}, position_side=position_side)


def beit3_config(section: Section, queries: int) -> Beit3Config:
    """Sizes of a BEiT-3 encoder that reads a picture and so many queries."""
    section.expect("model_type", ("beit3",), "beit3")
    section.expect("hidden_act", ("gelu",), "gelu")
    rows = section.count("max_source_positions", 1024)
    if FIRST_POSITION + queries > rows:
        raise UserError(f"{section.where}max_source_positions={rows} must have room for {queries} queries")
    return Beit3Config(**_vit_sizes(section), queries=queries, query_rows=rows)


def siglip_config(section: Section, image_size: int) -> SiglipConfig:
    """Sizes of a SigLIP tower for pictures with about as many pixels as a square of `image_size`; missing fields are
    those of transformers' Idefics2VisionConfig. Its own image_size is that of its table of positions."""
    section.expect("hidden_act", ("gelu_pytorch_tanh",), "gelu_pytorch_tanh")
    section.expect("num_channels", (3,), 3)
    sizes = _vit_sizes(section)
    return SiglipConfig(
        **sizes | {"image_size": image_size, "norm_eps": float(section.number("layer_norm_eps", 1e-6))},
        position_side=sizes["image_size"] // sizes["patch_size"],
    )


def _vit_sizes(section: Section) -> dict[str, Any]:
    """Fields of VitConfig."""
    sizes = {
        "width": section.count("hidden_size", 768),
        "mlp_width": section.count("intermediate_size", 3072),
        "layers": section.count("num_hidden_layers", 12),
        "heads": section.count("num_attention_heads", 12),
        "image_size": section.count("image_size", 224),
        "patch_size": section.count("patch_size", 32),
    }
    section.parts("image_size", sizes["image_size"], "patch_size", sizes["patch_size"])
    section.parts("hidden_size", sizes["width"], "num_attention_heads", sizes["heads"])
    return {**sizes, "norm_eps": float(section.number("layer_norm_eps", 1e-5))}


def image_statistics(directory: Any, otherwise: tuple[Channels, Channels] = CLIP) -> tuple[Channels, Channels]:
    """Mean and standard deviation per RGB channel (0…1) from a directory's processor files, else those given."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        file = epath.Path(directory) / name
        if file.exists():
            values = read_json(file)
            values = values.get("image_processor", values)
            if isinstance(values, dict) and "image_mean" in values and "image_std" in values:
                return _channels(values["image_mean"], f"{file}: image_mean"), _channels(
                    values["image_std"], f"{file}: image_std"
                )
    return otherwise


def _channels(value: Any, where: str) -> Channels:
    if not isinstance(value, list) or len(value) != 3 or not all(_is_number(x) and 0 <= x <= 1 for x in value):
        raise UserError(f"{where} is {value!r}; three numbers between 0 and 1 are needed")
    if where.endswith("image_std") and 0 in value:
        raise UserError(f"{where} is {value!r}; three numbers above 0 are needed")
    return (float(value[0]), float(value[1]), float(value[2]))
