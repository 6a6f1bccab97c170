"""Open a model, wherever it is: a Hugging Face directory, a hub id, or a directory of this project."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etils import epath
from jax.sharding import Mesh

from convert import layouts
from convert.adapters import CONFIG as ADAPTER_CONFIG
from convert.adapters import Adapters, base_of, is_adapter, open_adapter, vision_path_of
from convert.decoder import Entry
from convert.hub import local_directory
from convert.in_place import in_place_of
from convert.leaves import FileLeaf, Leaf, match
from convert.orbax_dir import (
    Notes,
    clear,
    is_orbax_dir,
    local_assets,
    mixed_dtypes,
    read_notes,
    read_params,
    write_assets,
)
from convert.stream import load_params
from convert.tables import TABLES
from convert.tensors import LazyTensor, read_directory
from convert.write_params import write_params
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.blueprint import Blueprint, Params, blueprint, flat
from rlaifv_jax.models.families import Family, family_of, is_original, tower_of
from rlaifv_jax.models.hf_config import KNOWN_TOWERS, Json, Section, image_statistics, read_json
from rlaifv_jax.places import is_remote

# Small files that travel with a model.
ASSET_SUFFIXES = (".json", ".model", ".jinja", ".txt", ".py")  # code that transformers may run, and nobody here does
NOT_ASSETS = ("rlaifv.json", "trainer_state.json", "model_index.json")
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class StoredModel:
    """A model whose weights have not been read yet; what headers and configs tell has been checked.

    family, config, blueprint: see rlaifv_jax.models. raw_config: config.json as it is. directory: a local
    directory with config and tokenizer. assets: the small files to keep with the model. leaves: where
    each parameter comes from. notes: layout of the source, template, dtypes. adapters: those that are merged in it.
    """

    family: Family
    config: Any
    blueprint: Blueprint
    raw_config: Json
    directory: Path
    assets: tuple[Path, ...]
    leaves: Mapping[str, Leaf]
    notes: Notes
    adapters: Adapters | None = None

    @property
    def source_layout(self) -> str:
        """Name of the key layout the weights came in, see convert.layouts."""
        return self.notes.source_layout

    @property
    def template(self) -> str | None:
        """Conversation template the model was trained with, where known."""
        return self.notes.template

    @property
    def entries(self) -> list[Entry]:
        """Rows of the table between our parameters and the tensors of files."""
        return TABLES[self.family.name](self.config)

    def load(
        self, mesh: Mesh, dtype: Callable[[str], Any | None] = lambda path: None, plan: Blueprint | None = None
    ) -> Params:
        """The parameters as a nested dict of arrays, sharded over `mesh`, read tensor by tensor.

        dtype: parameter path → dtype, None for that of the files. plan: a blueprint with the same parameters, of which
        some may be int8 (rlaifv_jax.models.lora). Every process must call this.
        """
        return load_params(self.leaves, plan or self.blueprint, mesh, dtype)

    def save_assets(
        self,
        directory: Any,
        template: str | None = None,
        tensor_dtypes: dict[str, list[str]] | None = None,
        tower: str = "inside",
    ) -> None:
        """Start a model directory: config, tokenizer, notes. `save_params` completes it.

        tower: 'separate' when an export to the original layout shall leave the image tower out again.
        """
        notes = Notes(
            family=self.notes.family,
            source_layout=self.notes.source_layout,
            tower=tower,
            template=template or self.notes.template,
            vision_config=self.notes.vision_config,
            tensor_dtypes=tensor_dtypes or {},
        )
        write_assets(directory, self.assets, notes)

    def mixed_dtypes(self) -> dict[str, list[str]]:
        """Layers' dtypes of the parameters whose layers are not all of one dtype."""
        counts = {entry.path: (entry.layer or 0) + 1 for entry in self.entries}
        return mixed_dtypes(
            {path: [leaf.dtype_of(i) for i in range(counts[path])] for path, leaf in self.leaves.items()}
        )


def open_model(
    path: Any, vision_path: Any = None, key: str = "model.path", above: tuple[Path, ...] = ()
) -> StoredModel:
    """Read configs and headers of a model and check that they fit each other.

    Args:
      path: Hugging Face directory, hub id, adapters of PEFT, or a directory written by this project (may be gs://).
      vision_path: directory or hub id of the CLIP tower. Used where the checkpoint has no tower of its own,
        as liuhaotian/llava-v1.5-7b; left alone otherwise. None: what config.json names.
      key: the setting that path came from, for messages. above: the adapters that this is to be the base of.

    Raises:
      UserError: what is wrong, in one line.
    """
    if is_orbax_dir(path):
        return _open_orbax(path, vision_path)
    directory = _adapter_in_the_cloud(path) or local_directory(path, key)
    if is_adapter(directory):
        if directory.resolve() in above:
            raise UserError(
                f"{above[0]}: base_model_name_or_path leads back to {directory}; write the base model's place"
            )
        tower = vision_path or vision_path_of(directory) or None
        where = f"{directory}: base_model_name_or_path"
        base = open_model(base_of(directory), tower, where, (*above, directory.resolve()))
        return open_adapter(base, directory)
    file = directory / "config.json"
    raw = read_json(file)
    family = family_of(raw, str(file))
    tensors = read_directory(directory)
    if vision_path and not family.may_lack_tower:
        raise _no_separate_tower(directory, family)
    separate = family.may_lack_tower and is_original(raw) and not any("vision_tower." in name for name in tensors)
    named = Section(raw, f"{file}: ").text("mm_vision_tower")
    tower_path = vision_path or (named if family.may_lack_tower else None)
    if separate and not tower_path:
        raise UserError(f"{directory}: has no image tower; set model.vision_path to one")
    tower_directory = local_directory(tower_path, "model.vision_path") if separate else None
    sizes = {} if not family.sees else _tower_sizes(family, raw, file, tower_directory, tower_path)
    towers = _tower_tensors(tower_directory) if tower_directory else tensors
    processor = next((d for d in (directory, tower_directory) if d and _processor_files(d)), directory)
    config = family.parse(raw, str(file), sizes, image_statistics(processor, family.statistics))
    layouts.check_layers("language model", config.decoder.layers, tensors, directory)
    if family.sees:
        layouts.check_layers("image tower", config.vision.layers, towers, tower_directory or directory)
    plan = blueprint(family.module, config)
    shapes = {name: leaf.shape for name, leaf in flat(plan.shapes).items()}
    entries = TABLES[family.name](config)
    own = [entry for entry in entries if tower_directory is None or entry.part != "vision"]
    layout = layouts.detect(family.name, tensors, [(entry.part, entry.name) for entry in own], directory)
    names = {(entry.part, entry.name): layout.full(entry.part, entry.name) for entry in own}
    leaves = match(own, layout.used(tensors), names, shapes, directory)
    if tower_directory is not None:
        leaves |= _tower_leaves(tower_directory, towers, [e for e in entries if e.part == "vision"], shapes)
    notes = Notes(
        family=family.name,
        source_layout=layout.name,
        tower="none" if not family.sees else "inside" if tower_directory is None else "separate",
        template=None,
        vision_config=sizes or {},
    )
    assets = _assets(directory) + (() if processor == directory else _processor_files(processor))
    return StoredModel(family, config, plan, raw, directory, assets, leaves, notes)


def _adapter_in_the_cloud(path: Any) -> Path | None:
    """A local copy of adapters at gs://…; None for anything else."""
    return local_assets(path) if is_remote(path) and (epath.Path(path) / ADAPTER_CONFIG).exists() else None


def _no_separate_tower(directory: Any, family: Family) -> UserError:
    return UserError(f"a vision path is given, but {directory} is of the family {family.name}, which needs none")


def _open_orbax(path: Any, vision_path: Any) -> StoredModel:
    notes = read_notes(path)
    directory = local_assets(path)
    file = directory / "config.json"
    raw = read_json(file)
    family = family_of(raw, str(file))
    if vision_path and not family.may_lack_tower:
        raise _no_separate_tower(path, family)
    config = family.parse(raw, str(file), notes.vision_config, image_statistics(directory, family.statistics))
    plan = blueprint(family.module, config)
    leaves = read_params(path, {name: leaf.shape for name, leaf in flat(plan.shapes).items()}, notes)
    return StoredModel(family, config, plan, raw, directory, _assets(directory), leaves, notes)


def import_model(source: StoredModel, directory: Any, template: str | None = None) -> None:
    """Write a model as a directory of this project, every tensor in its own dtype. Memory: a few layers.

    An older `directory` is replaced: at the end, or at the beginning in the cloud, which knows no renaming.
    """
    if is_remote(directory):
        clear(directory)
        _write_model(source, directory, template)
    else:
        with in_place_of(Path(directory)) as partial:
            _write_model(source, partial, template)


def _write_model(source: StoredModel, directory: Any, template: str | None) -> None:
    source.save_assets(directory, template, source.mixed_dtypes(), source.notes.tower)
    write_params(directory, source.leaves, source.blueprint)


def _tower_sizes(family: Family, raw: Json, file: Path, tower_directory: Path | None, tower_path: Any) -> Json | None:
    """vision_config: of the directory the tower is read from, else embedded, else of the tower named; None where
    config.json says nothing of one."""
    if tower_directory is None:
        embedded = tower_of(raw) if family.may_lack_tower else raw.get("vision_config")
        if embedded is not None:
            return embedded
        named = raw.get("mm_vision_tower")
        if named is None and not family.may_lack_tower:
            return None
        if named in KNOWN_TOWERS:
            return KNOWN_TOWERS[named]
        if not tower_path:
            raise UserError(f"{file}: has no vision_config, and the sizes of mm_vision_tower={named!r} are not known")
        tower_directory = local_directory(tower_path, "model.vision_path")
    values = read_json(tower_directory / "config.json")
    return Section(values, f"{tower_directory / 'config.json'}: ").below("vision_config").values or values


def _tower_tensors(directory: Path) -> dict[str, LazyTensor]:
    """Those of a CLIP directory, without its text half."""
    return {name: tensor for name, tensor in read_directory(directory).items() if not layouts.CLIP_TEXT.match(name)}


def _tower_leaves(
    directory: Path, tensors: Mapping[str, LazyTensor], entries: list[Entry], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, FileLeaf]:
    prefix = next((prefix for prefix in layouts.CLIP_PREFIXES if any(name.startswith(prefix) for name in tensors)), "")
    names = {(entry.part, entry.name): prefix + entry.name for entry in entries}
    return match(entries, tensors, names, shapes, directory)


def _assets(directory: Path) -> tuple[Path, ...]:
    return tuple(
        file
        for file in sorted(directory.iterdir())
        if file.is_file()
        and file.suffix in ASSET_SUFFIXES
        and file.name not in NOT_ASSETS
        and not file.name.endswith(".index.json")
    )


def _processor_files(directory: Path) -> tuple[Path, ...]:
    return tuple(directory / name for name in PROCESSOR_FILES if (directory / name).exists())
