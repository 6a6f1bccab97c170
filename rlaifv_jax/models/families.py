"""Which module a checkpoint needs, by the `model_type` of its config.json: a plain dict."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from rlaifv_jax.data.chat_template import Speech
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.clip_vit import ClipVitConfig
from rlaifv_jax.models.decoder import DecoderConfig
from rlaifv_jax.models.hf_config import (
    CLIP,
    CLIP_L_336,
    HALVES,
    Channels,
    Json,
    Section,
    beit3_config,
    canvases,
    decoder_config,
    eva02_config,
    siglip_config,
    tower_config,
)
from rlaifv_jax.models.llava import Llava, LlavaConfig
from rlaifv_jax.models.llava_next import LlavaNext, LlavaNextConfig
from rlaifv_jax.models.lora import Lora
from rlaifv_jax.models.minicpm import MiniCpm, MiniCpmConfig
from rlaifv_jax.models.muffin import Muffin, MuffinConfig
from rlaifv_jax.models.omnilmm import OmniLmm, OmniLmmConfig
from rlaifv_jax.models.resampler import ResamplerConfig
from rlaifv_jax.models.text import TextConfig, TextModel
from rlaifv_jax.models.vit import VitConfig

NOTHING_ADDED = Speech()
RESAMPLER_HEAD = 128  # width of a head
RESAMPLER_EPS = 1e-6


class Trained(NamedTuple):
    """Which parts a run trains: the image tower, what stands between it and the decoder, and of the decoder all or,
    with `lora`, nothing but adapters."""

    vision: bool = False
    projector: bool = True
    lora: Lora | None = None


@dataclass(frozen=True)
class Family:
    """A kind of model.

    parse: (config.json, name of that file, tower's config or None, image mean and std) → the module's config.
    sees: whether it takes images, and so has a tower. connector: the part between tower and decoder. never_trained:
    prefixes of parameter paths that no run trains. templates: conversation templates by name, the first of which that
    its tokenizer has the tokens for is a checkpoint's; none: the tokenizer's own, with what `speech` adds to it.
    spread_image: whether the original's token lists hold a picture as its patches, not as one placeholder.
    may_lack_tower: whether its checkpoints may have no image tower and name one that lies elsewhere. max_length:
    positions of a prompt with an answer in training, where nobody says.
    training_aspect_ratio, generation_aspect_ratio: how pictures become tiles where nobody says. statistics: image mean
    and std where no processor file tells them.
    """

    name: str
    module: type
    parse: Callable[[Json, str, Json | None, tuple[Channels, Channels]], Any]
    sees: bool
    connector: str = ""
    never_trained: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    speech: Speech = NOTHING_ADDED
    spread_image: bool = True
    may_lack_tower: bool = False
    max_length: int = 2048
    training_aspect_ratio: str = "crop"
    generation_aspect_ratio: str = "pad"
    statistics: tuple[Channels, Channels] = CLIP

    @property
    def only_own_template(self) -> bool:
        """Whether it speaks by the template of its tokenizer and by no other."""
        return self.sees and not self.templates

    def untrained(self, trained: Trained) -> tuple[str, ...]:
        """Prefixes of the parameters that a run does not train."""
        if not self.sees:
            return self.never_trained
        left = (("vision", trained.vision), (self.connector, trained.projector))
        return self.never_trained + tuple(part for part, learns in left if not learns)


def is_original(raw: Json) -> bool:
    """True for the flat config of haotian-liu/LLaVA and RLAIF-V, False for that of transformers."""
    return raw.get("model_type") == "llava_llama" or "mm_vision_tower" in raw or "mm_projector_type" in raw


def tower_of(raw: Json) -> Json | None:
    """The tower's sizes where config.json itself holds them."""
    embedded = raw.get("vision_config")
    return CLIP_L_336 if embedded in (None, {}) and not is_original(raw) else embedded


def parse_llava(
    raw: Json,
    file: str,
    tower: Json | None = None,
    statistics: tuple[Channels, Channels] = CLIP,
) -> LlavaConfig:
    """config.json of LLaVA-1.5, in the form of transformers or of the original code.

    Args:
      raw: the JSON object. file: its name, for messages.
      tower: the image tower's config, where config.json does not embed it.
      statistics: image mean and standard deviation.

    Raises:
      UserError: a setting that this project does not compute, or no sizes for the tower.
    """
    if is_original(raw):
        top = Section(raw, f"{file}: ")
        top.expect("mm_patch_merge_type", ("flat",), "flat")
        top.expect("image_aspect_ratio", ("pad", "square", "crop"), "square")
    return LlavaConfig(*_llava_parts(raw, file, tower), *statistics)


def parse_llava_next(
    raw: Json, file: str, tower: Json | None = None, statistics: tuple[Channels, Channels] = CLIP
) -> LlavaNextConfig:
    """config.json of LLaVA-NeXT (v1.6). Arguments and errors as those of `parse_llava`."""
    top = Section(raw, f"{file}: ")
    original = is_original(raw)
    if original:
        top.expect("mm_patch_merge_type", ("spatial_unpad",), "flat")
        top.expect("image_aspect_ratio", ("anyres",), "square")
    else:  # Mistral has another template
        top.below("text_config").expect("model_type", ("llama",), "llama")
    vision, decoder = _llava_parts(raw, file, tower)
    sizes = canvases(top, vision.image_size)
    return LlavaNextConfig(vision, decoder, *statistics, sizes if original else tuple((w, h) for h, w in sizes))


def _llava_parts(raw: Json, file: str, tower: Json | None) -> tuple[ClipVitConfig, DecoderConfig]:
    """Tower and decoder, whatever becomes of pictures."""
    top = Section(raw, f"{file}: ")
    sizes = tower_of(raw) if tower is None else tower
    if sizes is None:
        raise UserError(f"{file}: holds no vision_config; set model.vision_path to the image tower")
    if is_original(raw):
        top.expect("mm_projector_type", ("mlp2x_gelu",), "linear")
        top.expect("mm_vision_select_feature", ("patch",), "patch")
        top.expect("mm_use_im_start_end", (False,), False)
        top.expect("mm_use_im_patch_token", (False,), False)
        top.text("mm_vision_tower")
        text, layer_key = top, "mm_vision_select_layer"
    else:
        top.expect("projector_hidden_act", ("gelu",), "gelu")
        top.expect("vision_feature_select_strategy", ("default",), "default")
        top.expect("multimodal_projector_bias", (True,), True)
        top.expect("tie_word_embeddings", (False,), False)
        text, layer_key = top.below("text_config"), "vision_feature_layer"
    vision = tower_config(Section(sizes, f"{file}: vision_config."), top.get(layer_key, -2), f"{file}: {layer_key}")
    return vision, decoder_config(text)


def parse_omnilmm(
    raw: Json,
    file: str,
    tower: Json | None = None,
    statistics: tuple[Channels, Channels] = CLIP,
) -> OmniLmmConfig:
    """config.json of OmniLMM-12B and RLAIF-V-12B. Arguments and errors as those of `parse_llava`."""
    top = Section(raw, f"{file}: ")
    top.expect("mm_use_im_start_end", (True,), True)
    queries = top.count("num_query", 64)
    if math.isqrt(queries) ** 2 != queries:
        raise UserError(f"{file}: num_query is {queries}; the resampler's queries must be a square grid")
    if tower is None:
        raise UserError(f"{file}: holds no vision_config, which is needed; fetch it again")
    decoder = decoder_config(top)
    vision = eva02_config(Section(tower, f"{file}: vision_config."), top.count("image_size", 448))
    return OmniLmmConfig(vision, decoder, *statistics, _resampler(queries, vision, decoder, file))


def _resampler(queries: int, vision: VitConfig, decoder: DecoderConfig, file: str) -> ResamplerConfig:
    width = decoder.width
    if width % RESAMPLER_HEAD:
        raise UserError(
            f"{file}: hidden_size is {width}; "
            f"it must be a multiple of {RESAMPLER_HEAD}, which a head of the resampler takes"
        )
    return ResamplerConfig(queries, vision.width, width, width // RESAMPLER_HEAD, RESAMPLER_EPS)


def parse_muffin(
    raw: Json, file: str, tower: Json | None = None, statistics: tuple[Channels, Channels] = HALVES
) -> MuffinConfig:
    """config.json of Muffin-13B and RLHF-V-13B. Arguments and errors as those of `parse_llava`."""
    top = Section(raw, f"{file}: ")
    top.expect("mm_use_im_start_end", (True,), True)
    if tower is None:
        raise UserError(f"{file}: holds no vision_config, which is needed; fetch it again")
    vision = beit3_config(Section(tower, f"{file}: vision_config."), top.count("num_query", 64))
    return MuffinConfig(vision, decoder_config(top), *statistics)


def parse_minicpm(
    raw: Json, file: str, tower: Json | None = None, statistics: tuple[Channels, Channels] = HALVES
) -> MiniCpmConfig:
    """config.json of MiniCPM-Llama3-V 2.5. Arguments and errors as those of `parse_llava`; other versions of MiniCPM-V,
    which go by the same model_type, have another tower."""
    top = Section(raw, f"{file}: ")
    vision = Section({} if tower is None else tower, f"{file}: vision_config.")
    kind, version = vision.get("model_type", None), top.get("version", 2.5)
    if kind != "idefics2" or str(version) != "2.5":
        raise UserError(
            f"{file}: is of a MiniCPM-V that is not supported (version {version}, vision_config.model_type {kind!r}); "
            "of them only MiniCPM-Llama3-V 2.5 is, whose tower is 'idefics2'"
        )
    top.expect("drop_vision_last_layer", (False,), True)
    top.expect("slice_mode", (True,), True)
    slices = top.below("slice_config")
    edge = slices.count("scale_resolution", 448)
    sizes = siglip_config(vision, edge)
    slices.expect("patch_size", (sizes.patch_size,), 14)
    slices.parts("scale_resolution", edge, "patch_size", sizes.patch_size)
    if edge > (largest := sizes.position_side * sizes.patch_size):
        raise UserError(f"{slices.where}scale_resolution={edge} must be at most the tower's image_size={largest}")
    decoder = decoder_config(top)
    resampler = _resampler(top.count("query_num", 64), sizes, decoder, file)
    return MiniCpmConfig(sizes, decoder, *statistics, resampler, slices.count("max_slice_nums", 1))


def parse_text(
    raw: Json, file: str, tower: Json | None = None, statistics: tuple[Channels, Channels] = CLIP
) -> TextConfig:
    """config.json of a language model without a tower: Llama 2 and 3, Vicuna, Mistral. `tower` and `statistics` say
    nothing here.

    Raises:
      UserError: a setting that this project does not compute.
    """
    return TextConfig(decoder_config(Section(raw, f"{file}: ")))


LLAVA = Family(
    "llava",
    Llava,
    parse_llava,
    sees=True,
    connector="projector",
    never_trained=("vision/unused",),
    templates=("llava_v1",),
    spread_image=False,
    may_lack_tower=True,
)
LLAVA_NEXT = Family(
    "llava_next",
    LlavaNext,
    parse_llava_next,
    sees=True,
    connector="projector",
    never_trained=("vision/unused",),
    templates=("chatml_direct", "vicuna_v1"),  # of 34B; of 7B and 13B, which are Vicuna
    spread_image=False,
    may_lack_tower=True,
    max_length=4096,
    training_aspect_ratio="anyres",
    generation_aspect_ratio="anyres",
)
LLAMA = Family("llama", TextModel, parse_text, sees=False)

OMNILMM = Family(
    "omnilmm",
    OmniLmm,
    parse_omnilmm,
    sees=True,
    connector="resampler",
    never_trained=("resampler/position",),
    speech=Speech(
        system="You are an artificial intelligence assistant, which gives helpful, detailed, and polite answers to the "
        "human's questions.",
        tokens=("<im_start>", "<im_patch>", "<im_end>"),
        patch="<im_patch>",
        adds_bos=True,
    ),
    training_aspect_ratio="squash",
    generation_aspect_ratio="squash",
)

# Of BEiT-3 the image's experts and the patch embedding keep what they are; those of the queries learn, and the queries
# themselves, in a run with train.vision=True. As RLHF-V was trained (rates of 0 in muffin/train/trainers.py of Muffin).
MUFFIN = Family(
    "muffin",
    Muffin,
    parse_muffin,
    sees=True,
    connector="projector",
    never_trained=("vision/image", "vision/layers/image"),
    templates=("muffin",),
    training_aspect_ratio="squash",
    generation_aspect_ratio="squash",
    statistics=HALVES,
)

MINICPM = Family(
    "minicpm",
    MiniCpm,
    parse_minicpm,
    sees=True,
    connector="resampler",
    speech=Speech(tokens=("<image>", "<unk>", "</image>"), patch="<unk>", around_slices=("<slice>", "</slice>")),
    training_aspect_ratio="slices",
    generation_aspect_ratio="slices",
    statistics=HALVES,
)

FAMILIES: dict[str, Family] = {
    "llava": LLAVA,
    "llava_llama": LLAVA,
    "llava_next": LLAVA_NEXT,
    "llama": LLAMA,
    "mistral": LLAMA,
    "omnilmm": OMNILMM,
    "beit3_llava": MUFFIN,
    "minicpmv": MINICPM,
}


# Kinds that differ from supported ones in little.
REFUSED = {"llava_mistral": "Mistral's conversation template is not among those of this project"}


def family_of(raw: Json, file: str) -> Family:
    """The family of a config.json. Raises `UserError` with the known ones otherwise."""
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        why = REFUSED.get(str(kind), f"known are {', '.join(sorted(FAMILIES))}")
        raise UserError(f"{file}: model_type is {kind!r}, which is not supported; {why}")
    family = FAMILIES[kind]
    return LLAVA_NEXT if family is LLAVA and is_original(raw) and _is_tiled(raw) else family


def _is_tiled(raw: Json) -> bool:
    """Of the two generations that the original code calls the same, whether it is the second."""
    return str(raw.get("image_aspect_ratio")).startswith("anyres") or raw.get("mm_patch_merge_type") not in (
        None,
        "flat",
    )
