"""Adapters written as PEFT keeps them: they open with `peft` beside the matching class, and here as a model."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from convert import layouts
from convert.adapters import CONFIG, DOWN, NOTES, PREFIX, UP, WEIGHTS, factors_of, vision_path_of
from convert.decoder import Entry
from convert.in_place import in_place_of
from convert.layouts import Layout
from convert.tensors import DTYPES
from rlaifv_jax.cli import say
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.lora import Lora, halves

# What transformers calls the modules of a family in memory, which adapters are named by.
IN_MEMORY = {"llava": "transformers-5", "llava_next": "transformers-5"}


def write_adapter(
    directory: Any,
    params: Mapping[str, np.ndarray],
    model: Any,
    lora: Lora,
    base: str,
    template: str | None = None,
    vision_path: str = "",
) -> None:
    """Write a directory with the adapters, and the projector or resampler, among trained `params` (by path).

    Args:
      directory: may be gs://. model: a StoredModel; names are those of the class that opens its files. base,
      vision_path: where it and, if apart, its image tower are. template: the conversation template of training.
    """
    about = {"template": template, "vision_path": _place(vision_path)}
    _write(epath.Path(directory), params, model, _layout(model, model.source_layout), lora, base, about)


def is_complete(directory: Any) -> bool:
    """Whether `write_adapter` has ended."""
    return (epath.Path(directory) / CONFIG).exists()


def export_adapter(model: Any, destination: Path, layout: str, dtype: str, template: str | None = None) -> None:
    """The adapters of a `model` that was opened from them, under the names of `layout` ('original' or 'llava-hf').

    template: the conversation template of training; None: as noted with them.

    Raises:
      UserError: it is a whole model, or its adapters are not those of a decoder's linear maps.
    """
    found = model.adapters
    if found is None:
        raise UserError("--adapter: SRC is a whole model; leave --adapter out")
    if found.lora is None:
        raise UserError(f"{found.directory}: adapters of other parts than all layers of the decoder; export it merged")
    params = {path: leaf.read(None) for path, leaf in factors_of(model).items()}
    for path, leaf in model.leaves.items():
        if model.family.connector and path.startswith(model.family.connector + "/"):
            params[path] = leaf.read(None)
    if dtype != "keep":
        params = {path: array.astype(DTYPES[dtype]) for path, array in params.items()}
    about = {"template": template or model.notes.template, "vision_path": vision_path_of(found.directory)}
    if found.below:
        place = _place(found.base)
        say(
            f"note: {place} is adapters itself, which PEFT does not follow; export that merged, and name it as the base"
        )
    with in_place_of(destination) as partial:
        _write(epath.Path(partial), params, model, _layout(model, layout), found.lora, found.base, about)


def _layout(model: Any, name: str) -> Layout:
    """Of the class that opens models in the layout `name`, what its modules are called in memory."""
    if name != "original":
        name = IN_MEMORY.get(model.family.name, name)
    return layouts.named(model.family.name, name)


def _write(
    directory: epath.Path,
    params: Mapping[str, np.ndarray],
    model: Any,
    layout: Layout,
    lora: Lora,
    base: str,
    about: Mapping[str, str | None],
) -> None:
    from safetensors.numpy import save

    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).unlink(missing_ok=True)
    tensors = dict(_named(params, model.entries, layout))
    (directory / WEIGHTS[0]).write_bytes(save(tensors, metadata={"format": "pt"}))
    (directory / NOTES).write_text(json.dumps(about) + "\n")
    text = re.escape(layout.prefixes["text"])
    whole = [name.removeprefix(PREFIX) for name in tensors if not name.endswith((DOWN, UP))]
    whole = [name for name in whole if _module_of(name) not in ("", "model")]  # the model's own PEFT finds by name
    config = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": _place(base),
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": rf"{text}layers\.\d+\.(self_attn|mlp)\.({'|'.join(lora.targets)})",
        "modules_to_save": [_module(whole)] if whole else None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def _named(params: Mapping[str, np.ndarray], entries: list[Entry], layout: Layout) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of PEFT's file; a part that was trained whole may be pieces of ours."""
    pieces: dict[str, list[np.ndarray]] = {}
    for entry in entries:
        name, (down, up) = layout.full(entry.part, entry.name), halves(entry.path)
        if down in params:
            stem = PREFIX + name.removesuffix(".weight")
            yield stem + DOWN, np.ascontiguousarray(params[down][entry.layer].T)
            yield stem + UP, np.ascontiguousarray(params[up][entry.layer].T)
        elif entry.path in params:
            whole = params[entry.path]
            pieces.setdefault(PREFIX + name, []).append(whole if entry.back is None else whole.transpose(entry.back))
    for name, parts in pieces.items():
        yield name, np.ascontiguousarray(np.concatenate(parts))


def _place(path: str) -> str:
    """Of something that is here the whole path; hub ids and addresses stay as they are."""
    return os.path.abspath(path) if os.path.exists(path) else path


def _module_of(name: str) -> str:
    """The module that a tensor belongs to, '' where it is the model itself."""
    return name.rpartition(".")[0]


def _module(names: list[str]) -> str:
    """The last name of the module that all these tensors lie below."""
    common = []
    for parts in zip(*(_module_of(name).split(".") for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return common[-1]
