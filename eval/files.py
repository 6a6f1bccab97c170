"""Files of benchmarks: found in a folder, read with clear faults, told apart by hash."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaifv_jax.chat_server import whole_text
from rlaifv_jax.errors import UserError
from rlaifv_jax.places import refused


def find(data: Path, *names: str) -> Path:
    """The first of `names` that is in a folder; `data` itself where it is a file.

    Raises:
      UserError: none is there.
    """
    if data.is_file():
        return data
    for name in names:
        if (data / name).is_file():
            return data / name
    raise UserError(f"{data} has no {' and no '.join(names)}; python -m eval data says what is needed and where it is")


def read_rows(file: Path) -> list[dict[str, Any]]:
    """The objects of a JSON array, or of JSON lines.

    Raises:
      UserError: the file cannot be read, or holds something else.
    """
    return rows_of(read_bytes(file), file)


def read_bytes(file: Path) -> bytes:
    """Raises `UserError` for a file that cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise refused(f"{file} cannot be read", error, "check the path") from None


def rows_of(content: bytes, file: Path) -> list[dict[str, Any]]:
    """The same of a file's content."""
    text = text_in(content, file)
    if text.lstrip().startswith("["):
        rows = _parse(text, f"{file}")
    else:
        lines = text.split("\n")
        rows = [_parse(line, f"{file}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise UserError(f"{file}, row {number}: is {type(row).__name__}; an object is needed")
    return list(rows)


def text_in(content: bytes, file: Path) -> str:
    """UTF-8, with or without a mark at its head. Raises `UserError` for anything else."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} cannot be read ({error}); fetch it again") from None


def _parse(text: str, where: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is no JSON ({error}); mend or fetch it again") from None
    return mended(value) if "\\ud" in text.lower() else value


def mended(value: Any) -> Any:
    """A JSON value in which no text has half of a surrogate pair, which no file and no server takes."""
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, dict):
        return {mended(key): mended(inner) for key, inner in value.items()}
    return [mended(inner) for inner in value] if isinstance(value, list) else value


def text_of(row: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    """The first of the fields `names` that a row has.

    Raises:
      UserError: it has none, or it is no text.
    """
    for name in names:
        if (value := row.get(name)) is not None:
            if not isinstance(value, str):
                raise UserError(f"{where}: {name!r} is {type(value).__name__}; a text is needed")
            return value
    raise UserError(f"{where}: has no {' or '.join(map(repr, names))}, which is needed")


def sha256(files: Sequence[Path]) -> str:
    """Of the contents of files, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def make_folder(folder: Path, key: str) -> None:
    """Raises `UserError` where it cannot be. key: the setting that names it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise refused(f"{key}: {folder} cannot be a folder", error, "choose another place") from None


def picture_of(data: Path, address: str) -> str:
    """Path, from the folder of data, of the picture that an address names; '' where it is not there."""
    folder = data if data.is_dir() else data.parent
    name = address.rstrip("/").rsplit("/", 1)[-1]
    places = (address, f"images/{name}", name) if "://" not in address else (f"images/{name}", name)
    return next((place for place in places if place and _is_file(folder / place)), "")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # no name that a file can have
        return False
