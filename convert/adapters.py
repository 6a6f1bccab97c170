"""Adapters (LoRA) as PEFT keeps them, opened as a model: their base, merged when it is read, or `apart`.

    adapter_config.json          rank, alpha, the model that the adapters belong to
    adapter_model.safetensors    lora_A [r, in] and lora_B [out, r] of linear maps, and parts that were trained whole
    rlaifv_adapter.json          template and place of the image tower; only in what this project wrote

A pair of the original code (haotian-liu/LLaVA, muffin/train/train_llava15_lora.py of RLAIF-V) keeps its projector in
`non_lora_trainables.bin` instead.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convert import layouts
from convert.adapter_leaves import FactorLeaf, Factors, MergedLeaf
from convert.decoder import LINEAR, Entry
from convert.leaves import FileLeaf
from convert.safetensors_file import read_safetensors
from convert.tensors import DTYPES, LazyTensor
from convert.torch_file import read_torch
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.blueprint import flat
from rlaifv_jax.models.hf_config import Section, read_json
from rlaifv_jax.models.lora import LAYERS, PATHS, Lora, halves, overlay

CONFIG = "adapter_config.json"  # written last: where it is, all is
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
OTHERS = "non_lora_trainables.bin"
NOTES = "rlaifv_adapter.json"
PREFIX = "base_model.model."
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Adapters:
    """Of a model that was opened from such a directory. base: the model that it names. paths: of the kernels that have
    adapters. lora: None where these are not all layers of the decoder's linear maps. below: the base's own."""

    directory: Path
    base: str
    paths: tuple[str, ...]
    lora: Lora | None
    below: "Adapters | None"

    @property
    def bases(self) -> tuple[str, ...]:
        """All models that they need."""
        return (self.base, *(self.below.bases if self.below else ()))


def is_adapter(directory: Path) -> bool:
    return (directory / CONFIG).exists()


def base_of(directory: Path) -> str:
    """What the adapters lie beside: a directory or hub id.

    Raises:
      UserError: adapters of a kind that is not supported, or nothing is said of a base.
    """
    section = _settings(directory)
    base = section.text("base_model_name_or_path")
    if not base:
        raise UserError(f"{directory / CONFIG}: base_model_name_or_path is not set; write the base model's place there")
    beside = directory / base
    return str(beside.resolve()) if not os.path.exists(base) and os.path.exists(beside) else base


def vision_path_of(directory: Path) -> str:
    """Where the base's image tower is, if it was not beside it; '' otherwise."""
    return _notes(directory).text("vision_path") or ""


def open_adapter(base: Any, directory: Path) -> Any:
    """`base` (a StoredModel) with the adapters of `directory` merged into it.

    Raises:
      UserError: the adapters do not fit the base, or are damaged.
    """
    section = _settings(directory)
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in _tensors(directory).items()}
    whole = {_whole(name): tensor for name, tensor in tensors.items() if ".lora_" not in name}
    stems = {name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN)}
    odd = [name for name in tensors if ".lora_" in name and not name.endswith((DOWN, UP))]
    alone = [stem for stem in stems if stem + UP not in tensors]
    alone += [name for name in tensors if name.endswith(UP) and name.removesuffix(UP) not in stems]
    if not stems or odd or alone:
        what = f"{odd[0]} is no matrix of a linear map" if odd else f"half of {alone[0]}" if alone else "no adapters"
        raise UserError(f"{directory}: its tensors cannot be used: {what}; fetch them again")
    names = _by_name(base, {f"{stem}.weight" for stem in stems} | whole.keys(), directory)
    rank, alpha = section.count("r", 8), float(section.number("lora_alpha", 8))
    if section.expect("use_rslora", (False, True), False):
        alpha *= math.sqrt(rank)  # its share is alpha / √r
    scale = alpha / rank
    shapes = flat(base.blueprint.shapes)
    found: dict[str, dict[int, Factors]] = {}
    leaves = dict(base.leaves)
    for stem in sorted(stems):
        entry, *others = names[f"{stem}.weight"]
        if others or entry.axes != LINEAR:
            raise UserError(f"{directory}: {stem} has an adapter, which only separate linear maps can have")
        down, up = tensors[stem + DOWN], tensors[stem + UP]
        _check(stem, entry, down, up, shapes[entry.path].shape, rank, directory)
        found.setdefault(entry.path, {})[entry.layer or 0] = Factors(down, up, scale)
    for path, layers in found.items():
        count = shapes[path].shape[0] if len(shapes[path].shape) > 2 else 1
        leaves[path] = MergedLeaf(leaves[path], tuple(layers.get(layer) for layer in range(count)))
    for name, tensor in whole.items():
        for entry in names[name]:
            if entry.layer is not None:
                raise UserError(f"{tensor.file}: {name} was trained whole; of the layers only adapters are supported")
            shape = entry.theirs(shapes[entry.path].shape)
            if tensor.shape != shape:
                raise UserError(f"{tensor.file}: {name} is {list(tensor.shape)}, the base has {list(shape)}")
            leaves[entry.path] = FileLeaf((entry,), (tensor,))
    template = _notes(directory).text("template") or base.notes.template
    model = replace(base, leaves=leaves, notes=replace(base.notes, template=template))
    own = {path: leaves[path] for path in found}
    settings = _lora(own, rank, alpha, section)
    return replace(model, adapters=Adapters(directory, base_of(directory), tuple(own), settings, base.adapters))


def apart(model: Any) -> Any:
    """The same StoredModel with its adapters beside the base's weights, as in training; as it is where that cannot be.

    So generation and scores in bfloat16 are those of what was trained: merged in bfloat16, most of what the first steps
    have learnt is rounded away.
    """
    if model.adapters is None or model.adapters.lora is None:
        return model
    leaves = dict(model.leaves)
    leaves |= {path: model.leaves[path].base for path in model.adapters.paths} | factors_of(model)
    return replace(model, leaves=leaves, blueprint=overlay(model.blueprint, model.adapters.lora))


def factors_of(model: Any) -> dict[str, FactorLeaf]:
    """The adapters of a model by their paths in training, for adapters of all layers."""
    found = {}
    for path in model.adapters.paths:
        layers = [factors for factors in model.leaves[path].factors if factors]
        down, up = halves(path)
        found[down] = FactorLeaf(tuple(layer.down for layer in layers))
        found[up] = FactorLeaf(tuple(layer.up for layer in layers))
    return found


def _lora(merged: Mapping[str, Any], rank: int, alpha: float, section: Section) -> Lora | None:
    """None where adapters are not those of whole stacks of the decoder's linear maps. merged: the leaves with them."""
    targets = tuple(name for name, path in PATHS.items() if f"{LAYERS}/{path}/kernel" in merged)
    if len(targets) < len(merged) or any(None in leaf.factors for leaf in merged.values()):
        return None
    return Lora(rank, alpha, float(section.get("lora_dropout", 0.0)), targets, "")


def _notes(directory: Path) -> Section:
    file = directory / NOTES
    return Section(read_json(file) if file.exists() else {}, f"{file}: ")


def _settings(directory: Path) -> Section:
    file = directory / CONFIG
    section = Section(read_json(file), f"{file}: ")
    section.expect("peft_type", ("LORA",), "LORA")
    section.expect("bias", ("none",), "none")
    for key in ("use_dora", "fan_in_fan_out", "lora_bias"):
        section.expect(key, (False,), False)
    for key in ("rank_pattern", "alpha_pattern"):
        section.expect(key, ({},), {})
    return section


def _tensors(directory: Path) -> dict[str, LazyTensor]:
    file = next((directory / name for name in WEIGHTS if (directory / name).is_file()), None)
    if file is None:
        raise UserError(f"{directory}: no {' and no '.join(WEIGHTS)} beside {CONFIG}; the download is incomplete")
    tensors = (read_safetensors if file.suffix == ".safetensors" else read_torch)(file)
    if (directory / OTHERS).exists():
        tensors |= read_torch(directory / OTHERS)
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES.values():
            raise UserError(f"{tensor.file}: {name} is {tensor.dtype}; supported are {', '.join(DTYPES)}")
    return tensors


def _whole(name: str) -> str:
    """The name in its model of a tensor that was trained whole."""
    return name.removeprefix("base_model.").replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".")


def _by_name(base: Any, wanted: set[str], directory: Path) -> Mapping[str, Sequence[Entry]]:
    """Name in the files → rows of the table, in the layout that has all those `wanted`."""
    entries: Sequence[Entry] = base.entries
    best: dict[str, list[Entry]] = {}
    for layout in layouts.LAYOUTS[base.family.name]:
        names: dict[str, list[Entry]] = {}
        for entry in entries:
            names.setdefault(layout.full(entry.part, entry.name), []).append(entry)
        if len(wanted & names.keys()) >= len(wanted & best.keys()):
            best = names
        if wanted <= names.keys():
            return names
    strange = sorted(wanted - best.keys())
    raise UserError(
        f"{directory}: {len(strange)} of its tensors belong to nothing in the base model ({base.family.name}): "
        f"{', '.join(strange[:3])}{' …' if len(strange) > 3 else ''}"
    )


def _check(
    stem: str, entry: Entry, down: LazyTensor, up: LazyTensor, shape: tuple[int, ...], rank: int, directory: Path
) -> None:
    width_in, width_out = shape[-2:]
    if down.shape != (rank, width_in) or up.shape != (width_out, rank):
        raise UserError(
            f"{down.file}: the adapter of {stem} is {list(down.shape)} and {list(up.shape)}; for rank {rank} and the "
            f"base model it must be {[rank, width_in]} and {[width_out, rank]}"
        )
