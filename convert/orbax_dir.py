"""This project's own model directory: config and tokenizer beside arrays written by Orbax.

    config.json, tokenizer.model, …   as the source had them
    rlaifv.json                       what the arrays do not tell: where they came from, dtypes of the source
    params/                           the parameters; written last: when they are there, all is

Paths may be gs://. `params/` is a plain Orbax checkpoint of the nested dict of parameters; it is read through
TensorStore, which, other than Orbax, can read a single layer of a stacked array.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from convert.orbax_leaf import OrbaxLeaf, check_chunks, damaged
from convert.tensors import DTYPES
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.hf_config import Json, read_json
from rlaifv_jax.places import entries, fault, is_remote, place, scratch

FORMAT = 1
NOTES = "rlaifv.json"
PARAMS = "params"
CHUNK_BYTES = 64 * 2**20  # a chunk of an array that was in memory; what `write_params` writes has a layer in each
TOWERS = ("inside", "separate", "none")
FILE_BYTES = 256 * 2**20  # size of a data file; so much is kept in memory while writing


@dataclass(frozen=True)
class Notes:
    """The content of rlaifv.json.

    source_layout: names the tensors had. tower: 'inside' the source's weights, 'separate' from them, or 'none'.
    template: conversation template the model was trained with, if known. vision_config: sizes of
    the tower. tensor_dtypes: parameter path → dtype of each layer's tensor, for layers of several dtypes.
    """

    family: str
    source_layout: str
    tower: str
    template: str | None
    vision_config: Json
    tensor_dtypes: dict[str, list[str]] = field(default_factory=dict)


def is_orbax_dir(path: Any) -> bool:
    """True for a complete directory of ours.

    Raises:
      UserError: it is ours but was never finished, or cannot be read.
    """
    directory = epath.Path(path)
    try:
        if is_unfinished(directory):
            raise UserError(f"{directory}: has no finished {PARAMS}/: its writing was interrupted; write it again")
        return (directory / NOTES).exists()
    except ImportError as error:  # gs:// without gcsfs
        raise fault(error) or UserError(f"{path} cannot be read ({error}); write the model again") from None


def is_unfinished(path: Any) -> bool:
    """Whether the writing of a directory of ours was interrupted."""
    return (epath.Path(path) / NOTES).exists() and not is_complete(path)


def is_complete(directory: Any) -> bool:
    """Whether the parameters are there to the last byte."""
    import orbax.checkpoint as ocp

    params = epath.Path(directory) / PARAMS
    return (params / "_METADATA").exists() and ocp.utils.is_checkpoint_finalized(params)


def write_assets(directory: Any, files: Iterable[Path], notes: Notes) -> None:
    """Everything but the parameters: rlaifv.json, then small files as they are. Call it in one process.

    rlaifv.json comes first: what it stands in without parameters `is_unfinished`.
    """
    target = epath.Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    (target / NOTES).write_text(json.dumps({"format": FORMAT, **asdict(notes)}, indent=2) + "\n")
    for file in files:
        (target / file.name).write_bytes(file.read_bytes())


def make_checkpointer() -> Any:
    """An Orbax checkpointer for `save_params` that writes in the background; close it at the end."""
    import orbax.checkpoint as ocp

    return ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler())


def save_params(directory: Any, params: Any, checkpointer: Any = None) -> None:
    """Write `params/`, which completes a directory that already has its assets. Every process must call it.

    Without a `checkpointer` (see `make_checkpointer`) this returns when all is on disk, else as soon as
    the arrays may change.
    """
    import jax
    import orbax.checkpoint as ocp

    # Chunks of single layers, so that readers need not decode a whole stack.
    options = jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES, shard_axes=(0,)), params)
    writer = make_checkpointer() if checkpointer is None else checkpointer
    save = ocp.args.PyTreeSave(params, save_args=options, ocdbt_target_data_file_size=FILE_BYTES)
    writer.save(epath.Path(directory) / PARAMS, args=save, force=True)
    if checkpointer is None:
        writer.wait_until_finished()
        writer.close()


def read_notes(directory: Any) -> Notes:
    """rlaifv.json. Raises `UserError` when it is from a newer version of this project."""
    file = epath.Path(directory) / NOTES
    values = read_json(file)
    if values.pop("format", None) != FORMAT:
        raise UserError(
            f"{file}: written by another version of this project; this one reads format {FORMAT}; write the model again"
        )
    try:
        notes = Notes(**values)
    except TypeError as error:
        raise UserError(f"{file}: {error}") from None
    dtypes = notes.tensor_dtypes
    if notes.tower not in TOWERS or not isinstance(dtypes, dict) or not all(map(_is_dtypes, dtypes.values())):
        raise UserError(f"{file} is damaged: its tower or tensor_dtypes are none; write the model again")
    return notes


def _is_dtypes(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name in DTYPES for name in value)


def read_params(directory: Any, shapes: Mapping[str, tuple[int, ...]], notes: Notes) -> dict[str, OrbaxLeaf]:
    """Parameter path → lazy array.

    Raises:
      UserError: the arrays are not those of `shapes`.
    """
    import tensorstore

    params = epath.Path(directory) / PARAMS
    metadata = read_json(params / "_METADATA")
    try:
        tree = metadata["tree_metadata"].values()
        keys = ["/".join(str(key["key"]) for key in entry["key_metadata"]) for entry in tree]
    except (KeyError, AttributeError, TypeError):
        raise UserError(f"{params / '_METADATA'} is damaged; write the model again") from None
    wrong = [*(f"{path} missing" for path in shapes.keys() - set(keys))]
    wrong += [f"{path} unexpected" for path in set(keys) - shapes.keys()]
    # Room for two chunks, or a layer would be decoded again for every device that holds a slice of it.
    layer = max((4 * int(np.prod(shape[1:])) for shape in shapes.values() if len(shape) > 2), default=0)
    context = tensorstore.Context({"cache_pool": {"total_bytes_limit": 2 * max(CHUNK_BYTES, layer)}})
    leaves = {}
    for path in shapes if not wrong else ():
        try:
            store = tensorstore.open(store_spec(params, path, metadata), open=True, read=True, context=context).result()
        except ValueError as error:  # what TensorStore raises for everything
            raise damaged(f"{params}: {path}", error) from None
        if store.shape != shapes[path]:
            wrong.append(f"{path} is {list(store.shape)}, config.json says {list(shapes[path])}")
        recorded = tuple(DTYPES[name] for name in notes.tensor_dtypes.get(path, ()))
        if recorded and len(recorded) != shapes[path][0]:
            wrong.append(f"{path} has {shapes[path][0]} layers, {NOTES} the dtypes of {len(recorded)}")
        leaves[path] = OrbaxLeaf(f"{params}: {path}", store, recorded)
    if wrong:
        raise UserError(
            f"{params}: does not fit config.json, both must be of one model; "
            f"{len(wrong)} differences: {', '.join(wrong[:3])}"
        )
    check_chunks(leaves, complete=metadata.get("store_array_data_equal_to_fill_value") is True)
    return leaves


def store_spec(params: epath.Path, path: str, metadata: Json) -> Json:
    """The TensorStore spec of one array; Orbax joins the keys of the tree by dots. metadata: of the checkpoint."""
    name = path.replace("/", ".")

    def place(tail: str) -> Any:
        if is_remote(params):
            return f"{params}/{tail}"
        return {"driver": "file", "path": f"{Path(params).absolute()}/{tail}"}

    packed = metadata.get("use_ocdbt", True)
    store = {"driver": "ocdbt", "base": place(""), "path": f"{name}/"} if packed else place(f"{name}/")
    return {"driver": "zarr3" if metadata.get("use_zarr3") else "zarr", "kvstore": store}


def local_assets(directory: Any) -> Path:
    """A local directory with the same small files, for libraries that know no gs://."""
    if not is_remote(directory):
        return Path(directory)
    copy = scratch("model")
    for file in entries(place(directory)):
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    return copy


def clear(directory: Any) -> None:
    """Make a directory that is to be written anew unfinished at once, then empty but for the sign of that."""
    target = epath.Path(directory)
    if not target.exists():
        return
    clear_params(directory)
    (target / NOTES).write_text("{}")
    for entry in target.iterdir():
        if entry.is_dir():
            entry.rmtree()
        elif entry.name != NOTES:
            entry.unlink()


def clear_params(directory: Any) -> None:
    """Remove the parameters of a directory, if it has any; first what says that they are whole."""
    params = epath.Path(directory) / PARAMS
    if params.exists():
        (params / "_METADATA").unlink(missing_ok=True)
        params.rmtree()


def mixed_dtypes(dtypes: Mapping[str, Iterable[np.dtype]]) -> dict[str, list[str]]:
    """The `tensor_dtypes` of Notes: only parameters whose layers differ among each other."""
    names = {path: [dtype.name for dtype in layers] for path, layers in dtypes.items()}
    return {path: layers for path, layers in names.items() if len(set(layers)) > 1}
