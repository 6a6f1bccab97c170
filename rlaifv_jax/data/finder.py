"""Find the picture of a record that names one: of a question, an answer, a claim about an answer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.messages import CellError
from rlaifv_jax.data.pictures import read_image

Elsewhere = Callable[[dict[str, Any]], bytes | None]


def nested(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The record, its `metainfos`, and theirs."""
    while isinstance(record, Mapping):
        yield record
        record = record.get("metainfos")  # type: ignore[assignment]


class Pictures:
    """Looks at `image` and `image_path` of a record, then of what it nests in `metainfos`.

    Args:
      folders: where relative paths may start, in this order ("" is the working directory).
      elsewhere: asked last, for records that name no picture, or none that is there; may raise `BadRow`.
      within: as `read_image` takes it.
    """

    def __init__(
        self,
        folders: Sequence[str | None],
        elsewhere: Elsewhere | None = None,
        within: Sequence[str] | None = None,
    ):
        self.within = within
        self.folders = list(dict.fromkeys(folder for folder in folders if folder is not None)) or [""]
        self.elsewhere = elsewhere

    def names(self, record: dict[str, Any]) -> bool:
        """Whether the record names a picture, or one is to be had elsewhere, which is asked. Raises `BadRow`, too."""
        return any(self._names(record).values()) or bool(self.elsewhere and self.elsewhere(record) is not None)

    @staticmethod
    def _names(record: dict[str, Any]) -> dict[str, Any]:
        return {"image": _named(record, "image"), "image_path": _named(record, "image_path")}

    def read(self, record: dict[str, Any]) -> bytes | None:
        """The encoded picture, None where the record names none. Raises `BadRow` for one that is not there."""
        names = self._names(record)
        missing: BadRow | None = None
        for folder in self.folders:
            try:
                if (data := read_image(names, folder, self.within)) is not None:
                    return data
            except BadRow as fault:
                missing = missing or fault
            except CellError as error:
                column, expected, found = error.args
                raise BadRow("image_missing", f"{column!r} is of type {found}, not {expected}") from None
        if self.elsewhere and (data := self.elsewhere(record)) is not None:
            return data
        if missing:
            raise missing
        return None


def _named(record: Mapping[str, Any], column: str) -> Any:
    return next((level[column] for level in nested(record) if level.get(column)), None)
