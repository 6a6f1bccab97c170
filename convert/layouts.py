"""How the tensors of a family are called: one or several sets of names for the same tensors, as data.

A tensor has a part (vision, text, head, what connects them) and a name within the part that is the same everywhere; a
layout says what stands in front of it.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from rlaifv_jax.errors import UserError


@dataclass(frozen=True, eq=False)
class Layout:
    """prefixes: of each part's tensors. unused: tensors that may be there too, and that nothing is computed from."""

    name: str
    prefixes: Mapping[str, str]
    unused: Collection[str] = ()

    def full(self, part: str, name: str) -> str:
        """The name in a file of the tensor `name` of `part`."""
        return self.prefixes[part] + name

    def used(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """`tensors` without those that are `unused`."""
        return {name: tensor for name, tensor in tensors.items() if name not in self.unused}


def _llava(name: str, vision: str, project: tuple[str, str], text: str, head: str) -> Layout:
    parts = {"vision": vision, "project_in": project[0], "project_out": project[1], "text": text, "head": head}
    parts["newline"] = "model." if project[0].startswith("model.") else ""  # LLaVA-NeXT's
    return Layout(name, parts)


_HF = (("multi_modal_projector.linear_1.", "multi_modal_projector.linear_2."), "language_model.model.")
_HF5 = (("model.multi_modal_projector.linear_1.", "model.multi_modal_projector.linear_2."), "model.language_model.")

LLAVA = (
    _llava(  # haotian-liu/LLaVA and RLAIF-V
        "original",
        "model.vision_tower.vision_tower.vision_model.",
        ("model.mm_projector.0.", "model.mm_projector.2."),
        "model.",
        "lm_head.",
    ),
    _llava("llava-hf", "vision_tower.vision_model.", *_HF, "language_model.lm_head."),  # on the hub
    _llava("transformers-5", "model.vision_tower.", *_HF5, "lm_head."),  # saved after training in transformers 5
    _llava("transformers-5-new", "vision_tower.", *_HF, "language_model.lm_head."),  # a new model, saved by 5
    _llava("transformers-4.52", "model.vision_tower.vision_model.", *_HF5, "lm_head."),
)
OMNILMM = Layout(  # OpenBMB/OmniLMM and RLAIF-V
    "original",
    {"vision": "model.vision_tower.", "resampler": "model.resampler.", "text": "model.", "head": "lm_head."},
)
BEIT3 = "model.vision_tower.beit3."
MUFFIN = Layout(  # thunlp/Muffin and RLHF-V
    "original",
    {"vision": BEIT3, "query": "model.", "projector": "model.mm_projector.", "text": "model.", "head": "lm_head."},
    unused=(f"{BEIT3}text_embed.weight", f"{BEIT3}vision_embed.mask_token"),  # words and masks of BEiT-3's pretraining
)
MINICPM = Layout(  # OpenBMB/MiniCPM-V
    "original", {"vision": "vpm.", "resampler": "resampler.", "text": "llm.model.", "head": "llm.lm_head."}
)
# By family. A language model may have been cut out of a larger one, names and all.
LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    "llava": LLAVA,
    "llava_next": LLAVA,
    "llama": LLAVA,
    "omnilmm": (OMNILMM,),
    "muffin": (MUFFIN,),
    "minicpm": (MINICPM,),
}

# Buffers that older versions of transformers stored; they follow from the config and are never written.
DERIVED = re.compile(r"(^|\.)(rotary_emb\.inv_freq|embeddings\.position_ids)$")
# A CLIP directory also holds the text half of CLIP.
CLIP_TEXT = re.compile(r"^(text_model\..*|text_projection\.weight|visual_projection\.weight|logit_scale)$")
CLIP_PREFIXES = ("vision_model.", "")
# The layers of a part in whatever layout.
LAYERS = {
    "image tower": re.compile(r"\b(?:encoder\.layers|blocks)\.(\d+)\."),
    "language model": re.compile(r"(?<!encoder\.)\blayers\.(\d+)\."),
}


def check_layers(part: str, wanted: int, found: Collection[str], where: Any) -> None:
    """Raise `UserError` unless the tensors `found` are those of `wanted` layers; `part` is one of LAYERS."""
    there = len({match[1] for name in found if (match := LAYERS[part].search(name))})
    if there < wanted:
        names = "" if there else f"; they are called {', '.join(sorted(found)[:3])}"
        raise UserError(
            f"{where}: config.json says num_hidden_layers={wanted} of the {part}, the tensors are those of "
            f"{there} layers, so {wanted - there} are missing{names}; fetch the model again"
        )


def named(family: str, name: str) -> Layout:
    """The layout of a family that is called `name`. Raises `UserError` with those there are."""
    for layout in LAYOUTS[family]:
        if layout.name == name:
            return layout
    there = ", ".join(layout.name for layout in LAYOUTS[family])
    raise UserError(f"the layout {name!r} does not exist for {family}; there is {there}")


def detect(family: str, found: Collection[str], expected: Collection[tuple[str, str]], where: Any) -> Layout:
    """The layout whose names fit best those `found` in the files; `expected` are (part, name).

    Raises:
      UserError: not a single layout explains even half of the expected tensors.
    """
    found = set(found)
    hits = {layout: sum(layout.full(*key) in found for key in expected) for layout in LAYOUTS[family]}
    best = max(hits, key=lambda layout: hits[layout])
    if 2 * hits[best] < len(expected):
        some = ", ".join(sorted(found)[:3])
        known = ", ".join(layout.name for layout in hits)
        raise UserError(
            f"{where}: the tensors are called as in none of the known layouts ({known}); "
            f"it has {len(found)} of them, e.g. {some}"
        )
    return best
