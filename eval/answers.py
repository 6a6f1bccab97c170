"""Answers of any model, read from the original's files and ours, and put to the questions they belong to."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.benchmark import Item, Row
from eval.files import read_rows
from rlaifv_jax.errors import UserError

TEXTS = ("text", "answer", "model_answer", "response")
QUESTIONS = ("prompt", "question", "raw_question")
IMAGES = ("image_id", "image_url", "image")
Key = Callable[[Mapping[str, Any]], Any]


def read(file: Path, items: Sequence[Item]) -> list[Row]:
    """A row for every item, in order; items without an answer have failed.

    Answers belong to questions by the id they name, else by question and picture, else by question alone where no two
    are alike, else by their place (`question_id` counted from 0, as the original writes it).

    Raises:
      UserError: an answer that belongs nowhere, or two to one question.
    """
    records = read_rows(file)
    if not records:
        raise UserError(f"{file} holds no answers")
    places = _places(records, items, file)
    rows = [Row(item, "", failed="no answer") for item in items]
    for number, (record, place) in enumerate(zip(records, places, strict=True)):
        if rows[place].failed != "no answer":
            raise UserError(f"{file}, row {number}: a second answer to question {items[place].id}")
        rows[place] = _row(items[place], record, f"{file}, row {number}")
    return rows


def _row(item: Item, record: Mapping[str, Any], where: str) -> Row:
    answer = next((record[name] for name in TEXTS if record.get(name) is not None), None)
    if not isinstance(answer, str):
        raise UserError(f"{where}: has no answer; one of {', '.join(TEXTS)} is needed, as a text")
    answer = answer.replace("Assistant:", "").strip()
    error = record.get("error")
    return Row(item, answer, failed=f"not answered: {error}" if error else "")


def _places(records: Sequence[Mapping[str, Any]], items: Sequence[Item], file: Path) -> list[int]:
    """For every record the number of its item."""
    ways: list[tuple[Key, list[Any]]] = [
        (lambda record: _text(record.get("ds_question_id")), [item.id for item in items]),
        (lambda record: _text(record.get("id")), [item.id for item in items]),
        (lambda record: (_question(record), _image(record)), [(_plain(i.question), i.image_id) for i in items]),
        (lambda record: _image(record), [item.image_id for item in items]),
        (_question, [_plain(item.question) for item in items]),
    ]
    best, most = {}, 0
    for key, names in ways:
        if max(Counter(names).values()) > 1:
            continue
        known = {name: place for place, name in enumerate(names) if name not in ("", None)}
        found = [known.get(key(record)) for record in records]
        if all(place is not None for place in found):
            return [place for place in found if place is not None]
        if (count := sum(place is not None for place in found)) > most:
            best, most = dict(enumerate(found)), count
    if (in_order := _in_order(records, items)) is not None:
        return in_order
    lost = next((number for number in range(len(records)) if best.get(number) is None), 0)
    raise UserError(
        f"{file}, row {lost}: belongs to no question of this benchmark; give each answer the question and image_id it "
        f"is about, or its id ({len(records)} answers, {len(items)} questions)"
    )


def _in_order(records: Sequence[Mapping[str, Any]], items: Sequence[Item]) -> list[int] | None:
    """Places by `question_id`, where these count from 0 and no question contradicts."""
    numbers = [n for record in records if isinstance(n := record.get("question_id"), int) and 0 <= n < len(items)]
    if len(numbers) < len(records):
        return None
    pairs = zip(records, (items[n] for n in numbers), strict=True)
    contradicts = any(_question(record) not in ("", _plain(item.question)) for record, item in pairs)
    return None if contradicts else numbers


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _question(record: Mapping[str, Any]) -> str:
    return _plain(next((str(record[name]) for name in QUESTIONS if record.get(name)), ""))


def _plain(question: str) -> str:
    """Without the picture's placeholder, which some write into the prompt."""
    return question.replace("<image>", "").strip()


def _image(record: Mapping[str, Any]) -> str:
    return next((str(record[name]) for name in IMAGES if record.get(name) is not None), "")
