"""Answers of any model, read from the original's files and ours, and put to the questions they belong to."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.benchmark import Item, Row
from eval.files import read_bytes, rows_of
from rlaifv_jax.errors import UserError

TEXTS = ("text", "answer", "model_answer", "response")
QUESTIONS = ("prompt", "question", "raw_question")
IMAGES = ("image_id", "image_url", "image_src", "image")
Key = Callable[[Mapping[str, Any]], Sequence[Any]]


@dataclass(frozen=True)
class Answers:
    """rows: one for every item, in order; items without an answer have failed. sha256: of the file."""

    rows: list[Row]
    sha256: str


def read(file: Path, items: Sequence[Item]) -> Answers:
    """Answers belong to questions by the id they name, else by question and picture, else by picture or question alone
    where no two are alike, else by their place (`question_id` counted from 0, as the original writes it). None of these
    holds where an answer names another question or picture.

    Raises:
      UserError: an answer that belongs nowhere, or two to one question.
    """
    content = read_bytes(file)  # once: it may be a pipe, and nobody can change it meanwhile
    records = rows_of(content, file)
    if not records:
        raise UserError(f"{file} holds no answers; give one for each question")
    places = _places(records, items, file)
    rows = [Row(item, "", failed="no answer") for item in items]
    for number, (record, place) in enumerate(zip(records, places, strict=True)):
        if rows[place].failed != "no answer":
            raise UserError(f"{file}, row {number}: a second answer to question {items[place].id}; leave one out")
        rows[place] = _row(items[place], record, f"{file}, row {number}")
    return Answers(rows, hashlib.sha256(content).hexdigest())


def _row(item: Item, record: Mapping[str, Any], where: str) -> Row:
    answer = next((record[name] for name in TEXTS if record.get(name) is not None), None)
    if not isinstance(answer, str):
        raise UserError(f"{where}: has no answer; one of {', '.join(TEXTS)} is needed, as a text")
    answer = answer.replace("Assistant:", "").strip()
    error = record.get("error")
    return Row(item, answer, failed=f"not answered: {error}" if error else "")


def _places(records: Sequence[Mapping[str, Any]], items: Sequence[Item], file: Path) -> list[int]:
    """For every record the number of its item."""
    ids = [[item.id] for item in items]
    ways: list[tuple[Key, list[list[Any]]]] = [
        (lambda record: [_text(record.get("ds_question_id"))], ids),
        (lambda record: [_text(record.get("id"))], ids),
        (_questions_and_pictures, [[(_plain(i.question), name) for name in _names(i)] for i in items]),
        (_pictures, [_names(item) for item in items]),
        (lambda record: [_question(record)], [[_plain(item.question)] for item in items]),
        (lambda record: [record.get("question_id")], [[place] for place in range(len(items))]),
    ]
    pictures = {name for item in items for name in _names(item)}
    best: list[int | None] = []
    for keys_of, names in ways:
        if max(Counter(key for keys in names for key in keys).values(), default=0) > 1:
            continue
        known = {key: place for place, keys in enumerate(names) for key in keys}
        found = [_place(record, keys_of(record), known, items, pictures) for record in records]
        if None not in found:
            return [place for place in found if place is not None]
        if sum(place is None for place in found) < sum(place is None for place in best or [None] * len(records)):
            best = found
    lost = best.index(None) if None in best else 0
    raise UserError(
        f"{file}, row {lost}: belongs to no question of this benchmark; give each answer the question and image_id it "
        f"is about, or its id ({len(records)} answers, {len(items)} questions)"
    )


def _place(
    record: Mapping[str, Any], keys: Sequence[Any], known: Mapping[Any, int], items: Sequence[Item], pictures: set[str]
) -> int | None:
    """The item of a record, unless the record says that it is about something else."""
    hashable = (key for key in keys if isinstance(key, str | int | tuple) and not isinstance(key, bool))
    place = next((known[key] for key in hashable if key in known), None)
    if place is None:
        return None
    said, asked = _question(record), _plain(items[place].question)
    named = set(_pictures(record)) & pictures
    other_question = bool(said) and not (said.startswith(asked) or asked.startswith(said))  # but for what was appended
    other_picture = bool(named) and not named & set(_names(items[place]))
    return None if other_question or other_picture else place


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _question(record: Mapping[str, Any]) -> str:
    return _plain(next((str(record[name]) for name in QUESTIONS if record.get(name)), ""))


def _plain(question: str) -> str:
    """Without the picture's placeholder, which some write into the prompt."""
    return question.replace("<image>", "").strip()


def _pictures(record: Mapping[str, Any]) -> list[str]:
    return [str(record[name]) for name in IMAGES if record.get(name) not in (None, "")]


def _questions_and_pictures(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(_question(record), name) for name in _pictures(record)]


def _names(item: Item) -> list[str]:
    return [name for name in (item.image_id, *item.also) if name]
