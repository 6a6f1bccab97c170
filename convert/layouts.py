"""How the tensors of LLaVA-1.5 are called: five sets of names for the same tensors, as data.

A tensor has a part (vision, first and second projector layer, text, head) and a name within the part that
is the same everywhere; a layout says what stands in front of it.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from rlaifv_jax.errors import UserError


@dataclass(frozen=True)
class Layout:
    """Prefix of each part's tensors."""

    name: str
    vision: str
    project_in: str
    project_out: str
    text: str
    head: str

    def full(self, part: str, name: str) -> str:
        """The name in a file of the tensor `name` of `part`."""
        prefix: str = getattr(self, part)
        return prefix + name


_HF = ("multi_modal_projector.linear_1.", "multi_modal_projector.linear_2.", "language_model.model.")
_HF5 = (
    "model.multi_modal_projector.linear_1.",
    "model.multi_modal_projector.linear_2.",
    "model.language_model.",
)

ORIGINAL = Layout(  # haotian-liu/LLaVA and RLAIF-V
    "original",
    "model.vision_tower.vision_tower.vision_model.",
    "model.mm_projector.0.",
    "model.mm_projector.2.",
    "model.",
    "lm_head.",
)
LLAVA_HF = Layout("llava-hf", "vision_tower.vision_model.", *_HF, "language_model.lm_head.")  # on the hub
LAYOUTS = (
    ORIGINAL,
    LLAVA_HF,
    Layout("transformers-5", "model.vision_tower.", *_HF5, "lm_head."),  # saved after training in transformers 5
    Layout("transformers-5-new", "vision_tower.", *_HF, "language_model.lm_head."),  # a new model, saved by 5
    Layout("transformers-4.52", "model.vision_tower.vision_model.", *_HF5, "lm_head."),
)
BY_NAME = {layout.name: layout for layout in LAYOUTS}

# Buffers that older versions of transformers stored; they follow from the config and are never written.
DERIVED = re.compile(r"(^|\.)(rotary_emb\.inv_freq|embeddings\.position_ids)$")
# A CLIP directory also holds the text half of CLIP.
CLIP_TEXT = re.compile(r"^(text_model\..*|text_projection\.weight|visual_projection\.weight|logit_scale)$")
CLIP_PREFIXES = ("vision_model.", "")


def detect(found: Collection[str], expected: Collection[tuple[str, str]], where: Any) -> Layout:
    """The layout whose names fit best those `found` in the files; `expected` are (part, name).

    Raises:
      UserError: not a single layout explains even half of the expected tensors.
    """
    found = set(found)
    hits = {layout: sum(layout.full(*key) in found for key in expected) for layout in LAYOUTS}
    best = max(LAYOUTS, key=lambda layout: hits[layout])
    if 2 * hits[best] < len(expected):
        some = ", ".join(sorted(found)[:3])
        raise UserError(
            f"{where}: the tensors are called as in none of the known layouts ({', '.join(BY_NAME)}); "
            f"it has {len(found)} of them, e.g. {some}"
        )
    return best
