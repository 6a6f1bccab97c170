"""Files of a run as they are, perhaps while it is being written."""

import json
from collections.abc import Iterator
from typing import Any, TypeGuard

from etils import epath

from rlaifv_jax.errors import UserError

Json = dict[str, Any]
LARGEST = 1e100


def read_object(file: epath.Path) -> Json:
    """A JSON object. Raises `UserError` for anything else."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {_line(error)}; restore it, or move it away") from None
    if not isinstance(found, dict):
        raise UserError(f"{file} is {type(found).__name__}; an object is needed: restore it, or move it away")
    return found


def read_lines(file: epath.Path, most: int | None = None) -> Iterator[Json]:
    """JSON objects, a line each, `most` of them at most. A last line that is being written, or was when the run was
    killed, is left out.

    Raises:
      UserError: another line that is no JSON object.
    """
    try:
        with file.open("r") as stream:
            for number, line in enumerate(stream, 1):
                if most is not None and number > most:
                    return
                try:
                    found = json.loads(line)
                    if not isinstance(found, dict):
                        raise ValueError("no object")
                except (ValueError, RecursionError) as error:
                    if not line.endswith("\n"):
                        return
                    raise UserError(f"{file}, line {number}: {_line(error)}; restore it, or move it away") from None
                yield found
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {_line(error)}; restore it, or move it away") from None


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is one that can be reckoned with and drawn: neither infinite nor anywhere near float64's end."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
