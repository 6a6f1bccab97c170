"""A preference or SFT source as a sequence of examples that can be read in any order.

source = open_source("pairs.parquet", objective="dpo")
source.example(7)      # Example(row=7, id='…', image=b'…', turns=(Turn('user', '…'),), answers=('…', '…'))
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from rlaifv_jax.data import forms
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.messages import CellError
from rlaifv_jax.data.pictures import read_image
from rlaifv_jax.data.tables import Table, open_table
from rlaifv_jax.data.templates import Turn
from rlaifv_jax.errors import UserError

Objective = Literal["dpo", "sft"]
ID_COLUMNS = ("idx", "id", "question_id")
EXPECTED = (
    "image, question, chosen, rejected (RLAIF-V) · image, text with a JSON object (RLHF-V) · "
    "images, prompt, chosen, rejected (TRL)"
)
EXPECTED_SFT = "image with question, answer · messages · conversations (SFT)"


@dataclass(frozen=True)
class Example:
    """One row: an encoded image or none, turns that end with the user's, and the answers to it.

    `answers` is (chosen, rejected) for dpo and (answer,) for sft. No text holds an image placeholder.
    """

    row: int
    id: str
    image: bytes | None
    turns: tuple[Turn, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class StoredLogps:
    """What a `logps` column of the original holds: sums, and log-probs of the whole expanded sequence.

    The token lists span text and image positions without the first, float64[n]; only the answer's tail means
    anything.
    """

    chosen_sum: float
    chosen_mean: float
    chosen_tokens: np.ndarray
    rejected_sum: float
    rejected_mean: float
    rejected_tokens: np.ndarray


class Source:
    """Rows of one table read through one form. Cheap to pickle: workers map the same files."""

    def __init__(self, table: Table, form: forms.Form, objective: Objective):
        self._table = table
        self._form_name = form.name
        self._form: forms.Form | None = form
        self.objective = objective
        self.path = table.name
        self.columns = table.columns
        self.identity = table.identity

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_form": None}  # holds functions; found again from the columns

    def __len__(self) -> int:
        return len(self._table)

    @property
    def form(self) -> forms.Form:
        """How the rows are read."""
        if self._form is None:
            self._form = forms.detect(self.columns, self._table.texts(0))
        assert self._form is not None
        return self._form

    def row(self, row: int) -> dict[str, Any]:
        """All original columns of a row, images encoded: what one needs to write it again."""
        return self._table.row(row)

    def table(self, rows: Sequence[int] | np.ndarray) -> pa.Table:
        """Rows as an Arrow table with all original columns, images encoded."""
        return self._table.table([int(row) for row in rows])

    def id(self, row: int) -> str:
        """The row's own id, or its number where it has none."""
        return _id(self._table.texts(row), row)

    def example(self, row: int, *, image: bool = True) -> Example:
        """Read a row; `image=False` leaves the image out without reading it.

        Raises `BadRow` for a row that cannot be used, `UserError` (file, row, column, expected) for a cell of
        the wrong type.
        """
        cells = self._table.row(row) if image else self._table.texts(row)
        try:
            parsed = self.form.read(cells)
            data = read_image(cells, self._table.folder(row)) if image else None
        except CellError as error:
            column, expected, found = error.args
            raise UserError(
                f"data: {self.path}, row {row}, column {column!r}: expected {expected}, found {found}"
            ) from None
        if parsed.images > 1:
            raise BadRow("many_images", f"the messages hold {parsed.images} images; one a row is supported")
        if image and parsed.images and data is None:
            raise BadRow("image_missing", "the messages name an image, the image column is empty")
        answers = parsed.answers[:1] if self.objective == "sft" else parsed.answers
        return Example(int(row), _id(cells, row), data, parsed.turns, answers)

    def reference(self, row: int) -> StoredLogps | None:
        """Log-probs stored with the row by the original: column `logps`, or the same key inside `text`."""
        cells = self._table.texts(row)
        stored = cells.get("logps")
        if stored is None and self.form.name == forms.RLHF_V:
            stored = json.loads(cells["text"]).get("logps")
        if stored is None:
            return None
        try:
            values = json.loads(stored) if isinstance(stored, str) else stored
            values = values["logps"] if isinstance(values, Mapping) else values
            w_sum, w_mean, w_tokens, r_sum, r_mean, r_tokens = values
            if not (isinstance(w_tokens, Sequence) and isinstance(r_tokens, Sequence)):
                raise TypeError("the log-probs of tokens are no list")
            return StoredLogps(
                float(w_sum),
                float(w_mean),
                np.asarray(w_tokens, np.float64),
                float(r_sum),
                float(r_mean),
                np.asarray(r_tokens, np.float64),
            )
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise UserError(
                f"data: {self.path}, row {row}, column 'logps': expected JSON of six values "
                f"[sum, mean, [per token], sum, mean, [per token]]: {error}"
            ) from None


def open_source(
    path: str | os.PathLike[str] | Sequence[str], *, objective: Objective = "dpo", split: str = "train"
) -> Source:
    """Open Parquet or JSON files (one, a list, a glob, a directory, `gs://`) or a dataset of the hub.

    Raises `UserError` naming the file and its columns when no form fits, or when the first row's cells are of
    the wrong type.
    """
    table = open_table(path, split)
    if not len(table):
        raise UserError(f"data: {table.name} has no rows; one or more are needed")
    form = forms.detect(table.columns, table.texts(0))
    wanted = EXPECTED if objective == "dpo" else f"{EXPECTED} · {EXPECTED_SFT}"
    if form is None or (objective == "dpo" and not form.pairs):
        found = ", ".join(table.columns)
        raise UserError(f"data: {table.name}, row 0: columns {found} fit no form for {objective}; expected {wanted}")
    source = Source(table, form, objective)
    with contextlib.suppress(BadRow):  # one bad row does not speak for the file; the scan reports it
        source.example(0, image=False)
    return source


def _id(cells: Mapping[str, Any], row: int) -> str:
    value = next((cells[name] for name in ID_COLUMNS if cells.get(name) not in (None, "")), row)
    return str(value)
