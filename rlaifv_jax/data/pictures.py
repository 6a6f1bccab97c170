"""Find the encoded image of a row: bytes in the table, base64 text, or a file beside it."""

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.messages import CellError
from rlaifv_jax.places import is_remote

# The original takes any longer string for base64 (`llava15_gen_data.py`); we also let the alphabet decide.
LONGEST_PATH = 100


def read_image(row: Mapping[str, Any], folder: str | None, within: Sequence[str] | None = None) -> bytes | None:
    """Return the row's one image, still encoded, or None for a row of text only.

    Looks at `images`, `image` and `image_path`, in this order. Relative paths start in `folder`. within: the only
    folders from below which files are read, links followed; None: any. Raises `BadRow` for several images or a file
    that is not there, `CellError` for a cell of another type.
    """
    column = next((name for name in ("images", "image") if row.get(name) is not None), "image_path")
    cell = row.get(column)
    cells = list(cell) if isinstance(cell, Sequence) and not isinstance(cell, str | bytes) else [cell]
    cells = [cell for cell in cells if not _is_empty(cell)]
    if len(cells) > 1:
        raise BadRow("many_images", f"column {column!r} holds {len(cells)} images; one a row is supported")
    spare = row.get("image_path")
    if cells and (data := _read_cell(cells[0], column, folder, within)) is not None:
        return data
    if isinstance(spare, str) and spare and (data := _read_file(spare, folder, within)) is not None:
        return data
    if cells or spare:
        raise BadRow("image_missing", f"no file {_path_of(cells[0] if cells else spare)!r} below {folder!r}")
    return None


def _is_empty(cell: Any) -> bool:
    if isinstance(cell, Mapping):
        return cell.get("bytes") is None and not cell.get("path")
    return cell is None or cell == ""


def _path_of(cell: Any) -> str:
    return str(cell.get("path") if isinstance(cell, Mapping) else cell)[:LONGEST_PATH]


def _read_cell(cell: Any, column: str, folder: str | None, within: Sequence[str] | None) -> bytes | None:
    if isinstance(cell, Mapping):
        data, path = cell.get("bytes"), cell.get("path")
        if isinstance(data, bytes) and (data or not path):
            return data
        if isinstance(path, str):
            return _read_file(path, folder, within)
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, str):
        data = _from_base64(cell)
        return _read_file(cell, folder, within) if data is None else data
    raise CellError(column, "an image: {bytes, path}, bytes, a path or base64 text", cell)


def _from_base64(text: str) -> bytes | None:
    if text.startswith("data:"):
        text = text.partition(",")[2]
    elif len(text) <= LONGEST_PATH:
        return None
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error:
        return None


def _read_file(path: str, folder: str | None, within: Sequence[str] | None) -> bytes | None:
    if is_remote(path) and not path.startswith(("gs://", "file://", "s3://")):
        raise BadRow("image_missing", f"{path!r} is an address; download the images first")
    if not is_remote(path) and not os.path.isabs(path):
        if folder is None:
            return None
        path = f"{folder.rstrip('/')}/{path}" if folder else path
    if not is_remote(path) and os.path.exists(path) and not os.path.isfile(path):
        return None  # nobody may ever write to a pipe
    if within is not None and not any(_lies_below(path, root) for root in within):
        raise BadRow("image_missing", f"{path[:LONGEST_PATH]!r} lies outside of the folders that may be read")
    try:
        with fsspec.open(path, "rb") as stream:
            return stream.read()
    except (OSError, ValueError, ImportError):  # also a NUL in the name, or an address without its library
        return None


def _lies_below(path: str, folder: str) -> bool:
    """Whether a file is in a folder or below it once links and `..` are followed. Of addresses, `..` is none."""
    if is_remote(path):
        return path.startswith(f"{folder.rstrip('/')}/") and ".." not in path.split("/")
    try:
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))
    except (OSError, ValueError):  # a NUL in the name
        return False
