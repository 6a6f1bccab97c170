"""What a model directory is, told from configs and headers."""

from typing import Any

import numpy as np

from convert.load import open_model
from convert.orbax_dir import PARAMS, is_orbax_dir
from convert.tensors import weight_files
from rlaifv_jax.data.chat_template import OWN
from rlaifv_jax.models.blueprint import flat

PARTS = {"vision": "image tower", "projector": "projector", "resampler": "resampler", "decoder": "language model"}
TOWERS = {"inside": "inside the checkpoint", "separate": "beside the checkpoint"}


def describe(path: Any, vision_path: Any = None) -> str:
    """A few lines: family, layout, dtypes, parameters of each part, files, tokenizer, template.

    Raises:
      UserError: the directory is incomplete or does not fit its config; the message says where.
    """
    model = open_model(path, vision_path)
    shapes = flat(model.blueprint.shapes)
    counts = dict.fromkeys(PARTS, 0)
    dtypes: dict[str, int] = {}
    for name, leaf in shapes.items():
        size = int(np.prod(leaf.shape))
        counts[name.split("/")[0]] += size
        dtype = model.leaves[name].dtype.name
        dtypes[dtype] = dtypes.get(dtype, 0) + size
    total = sum(counts.values())
    adapters = model.adapters
    if is_orbax_dir(path if adapters is None else model.directory):
        files = f"{PARAMS}/ (Orbax)"
    else:
        found = weight_files(model.directory)
        gigabytes = sum(file.stat().st_size for file in found) / 1e9
        files = f"{len(found)} × {found[0].suffix}, {gigabytes:.2f} GB"
    beside = [("adapters", f"of {adapters.base}; what follows is the two merged")] if adapters else []
    if adapters and adapters.lora:
        lora = adapters.lora
        beside += [("rank, alpha", f"{lora.rank}, {lora.alpha:g}"), ("on", ", ".join(lora.targets))]
    tokenizers = [name for name in ("tokenizer.model", "tokenizer.json") if (model.directory / name).exists()]
    decoder, tower = model.config.decoder, []
    if model.family.sees:
        vision = model.config.vision
        way = model.family.generation_aspect_ratio
        place = f"{vision.layers} layers, {vision.image_size} pixels, pictures by {way!r}, {TOWERS[model.notes.tower]}"
        tower = [("tower", place)]
    lines = [
        *beside,
        ("family", model.family.name),
        ("layout", model.source_layout),
        ("dtype", ", ".join(f"{name} {count / total:.0%}" for name, count in sorted(dtypes.items()))),
        *((label, f"{counts[part]:,} parameters") for part, label in PARTS.items() if counts[part]),
        ("total", f"{total:,} parameters"),
        *tower,
        (
            "decoder",
            f"{decoder.layers} layers, width {decoder.width}, heads {decoder.heads}/{decoder.kv_heads}",
        ),
        ("vocabulary", f"{decoder.vocab_size} rows"),
        ("files", files),
        ("tokenizer", ", ".join(tokenizers) or "none"),
        ("template", model.template or (OWN if model.family.only_own_template else "not recorded")),
        ("complete", "yes: every tensor is there, in the shape of config.json"),
    ]
    return "\n".join(f"{label + ':':<16}{text}" for label, text in lines)
