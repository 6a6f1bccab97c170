"""Rows of preference or SFT files, in any form that training reads, as entries."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rlaifv_jax.data import forms
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.messages import CellError
from rlaifv_jax.data.pictures import read_image
from rlaifv_jax.data.schema import EXPECTED, EXPECTED_SFT, ID_COLUMNS
from rlaifv_jax.data.tables import IMAGE_COLUMNS, JSON_ENDINGS, JsonTable, find_files
from rlaifv_jax.errors import UserError
from rlaifv_jax.view.entry import Claim, Entry, Fate, Side, Unknown
from rlaifv_jax.view.parquet import ParquetRows
from rlaifv_jax.view.why import Ways, measured, ways_of

Row = Mapping[str, Any]
SHOWN = ("question", "chosen", "rejected", "prompt", "answer", "messages", "conversations", "text")  # as texts already
NAMED = {  # columns and keys of `origin_split` that come first, under these names
    "idx": "id",
    "id": "id",
    "question_id": "id",
    "ds_name": "set",
    "origin_dataset": "dataset",
    "model": "answered by",
    "labeler": "labeler",
    "type": "type",
    "image_path": "picture",
}
LONGEST = 4000  # letters of another column that are shown


def open_rows(path: str) -> ParquetRows | JsonTable:
    """Files of one kind. Raises `UserError` where there are none, or none that can be read."""
    files = find_files(path)
    if all(file.endswith(".parquet") for file in files):
        return ParquetRows(files, path)
    if all(file.endswith(JSON_ENDINGS) for file in files):
        return JsonTable(files, path)
    raise UserError(f"{path} holds Parquet and JSON; give one of them")


class TableSet:
    """See `Set`. path: as `open_table` takes it. images: folder from which pictures may be read, beside the data's own.

    Raises `UserError` for files that fit no form.
    """

    def __init__(self, path: str, images: str | None = None):
        self.name = path
        self._rows = open_rows(path)
        if not len(self._rows):
            raise UserError(f"{path} has no rows; one or more are needed")
        form = forms.detect(self._rows.columns, self._rows.texts(0))
        if form is None:
            found = ", ".join(self._rows.columns)
            raise UserError(
                f"{path}: columns {found} fit no form of preference data; expected {EXPECTED} · {EXPECTED_SFT}"
            )
        self._form = form
        self._images = images
        self._ways = None
        with contextlib.suppress(UserError):  # a manifest.json of somebody else
            self._ways = ways_of(Path(path) if Path(path).is_dir() else Path(path).parent)
        self.kind = form.name
        self.count = self.total = len(self._rows)
        self.about: dict[str, str] = {}
        self.fates: dict[str, int | None] = {}

    def scan(self) -> Iterator[tuple[Entry, int]]:
        rows = self._rows
        found = rows.scan() if isinstance(rows, ParquetRows) else ((row, self._texts(row)) for row in range(len(rows)))
        for row, cells in found:
            yield self._entry(row, cells), row + 1

    def entry(self, address: int) -> Entry:
        return self._entry(address, self._texts(address))

    def picture(self, address: int) -> bytes | None:
        folder = self._rows.folder(address)
        allowed = [place for place in (folder, self._images) if place is not None]
        cells = self._rows.row(address)
        try:
            return self._read(cells, folder, allowed)
        except BadRow:
            if self._images is None:
                raise
            return self._read(cells, self._images, allowed)

    def siblings(self, address: int) -> list[Entry]:
        return []

    def to_id(self, address: int) -> str:
        return str(address)

    def from_id(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) < len(self._rows)):
            raise Unknown(text)
        return int(text)

    @staticmethod
    def _read(cells: Row, folder: str | None, allowed: list[str]) -> bytes | None:
        try:
            return read_image(cells, folder, allowed)
        except CellError as error:
            column, expected, found = error.args
            raise BadRow("image_undecodable", f"column {column!r}: expected {expected}, found {found}") from None

    def _texts(self, row: int) -> Row | UserError:
        try:
            return self._rows.texts(row)
        except UserError as error:
            return error

    def _entry(self, row: int, cells: Row | UserError) -> Entry:
        if isinstance(cells, UserError):
            return Entry(row, "", (), note=str(cells))
        try:
            parsed = self._form.read(cells)
        except BadRow as fault:
            return Entry(row, "", (), facts=_facts(cells), others=_others(cells, all_of_it=True), note=str(fault))
        except CellError as error:
            column, expected, found = error.args
            note = f"column {column!r}: expected {expected}, found {found}"
            return Entry(row, "", (), facts=_facts(cells), others=_others(cells, all_of_it=True), note=note)
        names = ("chosen", "rejected") if len(parsed.answers) == 2 else ("answer",)
        infos = _object(cells.get("org_infos"))
        scores = _scores(cells, infos)
        sides = tuple(
            Side(name, text, _claims(infos, name), scores.get(name))
            for name, text in zip(names, parsed.answers, strict=True)
        )
        empty = [side.name for side in sides if not side.text.strip()]
        note = f"empty_answer: {' and '.join(empty)} without text" if empty else ""
        *before, last = [turn.text for turn in parsed.turns] or [""]
        facts = _facts(cells)
        return Entry(row, last, sides, tuple(before), facts, _others(cells), _fate(self._ways, sides), note)


def _fate(ways: Ways | None, sides: tuple[Side, ...]) -> Fate | None:
    """Why a pair of the stage of pairs was made; None where that is not known."""
    if ways is None or len(sides) < 2 or not all(side.claims and side.score is not None for side in sides):
        return None
    return Fate("kept", ways.steps(*map(measured, sides)))


def _object(value: Any) -> dict[str, Any]:
    """A cell that holds an object, or its JSON."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return dict(value) if isinstance(value, Mapping) else {}


def _scores(cells: Row, infos: Row) -> dict[str, float]:
    """Of both answers, by name, where the row tells them."""
    told = _object(cells.get("origin_split")).get("scores")
    if not (isinstance(told, list) and len(told) == 2):
        sides = _object(infos.get("scores"))
        told = [_object(sides.get(name)).get("score") for name in ("chosen", "rejected")]
    try:
        return dict(zip(("chosen", "rejected"), map(float, told), strict=True))
    except (TypeError, ValueError):
        return {}


def _claims(infos: Row, side: str) -> tuple[Claim, ...]:
    """Of one answer, by `org_infos`, which holds verdicts and no probabilities."""
    about = _object(infos.get(f"{side}_infos"))
    facts, questions = (about.get(name) for name in ("facts", "changed_facts"))
    if not (isinstance(facts, list) and isinstance(questions, list)):
        return ()
    judge = _object(_object(_object(infos.get("scores")).get(side)).get("judge"))
    told = list(judge.items())
    claims = []
    for place, fact in enumerate(facts):
        question = str(questions[place]) if place < len(questions) else ""
        if len(told) == len(facts):
            asked, verdict = told[place]
        else:  # a claim that was made twice has one verdict; what was asked is the question within a prompt
            asked, verdict = next((found for found in told if question and question in found[0]), (question, None))
        claims.append(Claim(str(fact), asked, accepted={"1": True, "0": False}.get(str(verdict))))
    return tuple(claims)


def _facts(cells: Row) -> dict[str, str]:
    found = {}
    for values in (cells, _object(cells.get("origin_split"))):
        for column, name in NAMED.items():
            value = values.get(column)
            if isinstance(value, str | int) and value != "" and name not in found:
                found[name] = str(value)
    return found


def _others(cells: Row, all_of_it: bool = False) -> dict[str, str]:
    """The columns that are not shown elsewhere, as text. all_of_it: of a row that fits no form."""
    hidden = (*IMAGE_COLUMNS, *(() if all_of_it else (*SHOWN, *ID_COLUMNS, "ds_name", "origin_dataset", "image_path")))
    found = {}
    for column, value in cells.items():
        if column in hidden or value is None or value == "":
            continue
        text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
        found[column] = text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text):,} letters)"
    return found
