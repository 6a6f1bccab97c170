"""Rows of several files that belong together: found by their id, never by their place."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlaifv_jax.errors import UserError


def keyed(rows: Iterable[Mapping[str, Any]], name: str, file: Path) -> dict[str, Mapping[str, Any]]:
    """Field `name`, as text, → row, in the order of `rows`.

    Raises:
      UserError: a row without it, or two with the same.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for number, row in enumerate(rows):
        key = row.get(name)
        if not isinstance(key, str | int):
            raise UserError(f"{file}, row {number}: has no {name!r}; a number or text is needed")
        if str(key) in found:
            raise UserError(f"{file}, row {number}: {name} {key} stands there twice; leave one out")
        found[str(key)] = row
    return found


def partner(rows: Mapping[str, Mapping[str, Any]], key: str, file: Path, what: str) -> Mapping[str, Any]:
    """The row of `file` that belongs to `what`.

    Raises:
      UserError: there is none.
    """
    if key not in rows:
        raise UserError(f"{file} has no row {key}, which {what} needs")
    return rows[key]
