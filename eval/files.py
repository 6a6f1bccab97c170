"""Files of benchmarks: found in a folder, read with clear faults, told apart by hash."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaifv_jax.errors import UserError


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
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}") from None
    if text.lstrip().startswith("["):
        rows = _parse(text, f"{file}")
    else:
        lines = text.split("\n")
        rows = [_parse(line, f"{file}, line {n}") for n, line in enumerate(lines, 1) if line.strip()]
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise UserError(f"{file}, row {number}: is {type(row).__name__}; an object is needed")
    return list(rows)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is no JSON ({error})") from None


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
    raise UserError(f"{where}: has no {' or '.join(map(repr, names))}")


def sha256(files: Sequence[Path]) -> str:
    """Of the contents of files, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def picture_of(data: Path, address: str) -> str:
    """Path, from the folder of data, of the picture that an address names; '' where it is not there."""
    folder = data if data.is_dir() else data.parent
    name = address.rstrip("/").rsplit("/", 1)[-1]
    places = (address, f"images/{name}", name) if "://" not in address else (f"images/{name}", name)
    return next((place for place in places if place and (folder / place).is_file()), "")
