"""Where the records of the original keep what we look for. Every stage nests the one before it in `metainfos`.

answer    question_id, ds_question_id, raw_question, answer, metainfos = the question's record
claims    an answer with raw_facts, facts, raw_changed_facts, changed_facts
item      question_id, ds_question_id, image_path, question; metainfos = the answer's, with origin_question, …
feedback  question_id, ds_question_id, raw_question = the item's question, answer, scores; metainfos = the item
"""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from rlaifv_jax.data.finder import nested
from rlaifv_jax.data.pictures import LONGEST_PATH
from rlaifv_jax.errors import UserError, shortened
from rlaifv_jax.records.part import Record

__all__ = ["Owner", "Record", "answer_of", "find", "group_of", "owner_of", "question_of", "shortly", "texts_of"]
QUESTION, ANSWER = ("raw_question", "prompt", "question"), ("answer", "text")  # names of these, in the original's order


class Owner(NamedTuple):
    """group: ds_question_id, which is the picture's name in the original's examples, or that of a data set elsewhere;
    hence the picture, too."""

    group: str
    question: str
    picture: str


def find(record: Mapping[str, Any], name: str) -> Any:
    """A field of the record, or the outermost of what it nests; None where there is none."""
    return next((level[name] for level in nested(record) if level.get(name) is not None), None)


def question_of(record: Mapping[str, Any], where: str) -> str:
    """What an answer's record answers. Raises `UserError` where it says nothing of that."""
    return _text(record, QUESTION, where)


def answer_of(record: Mapping[str, Any], where: str) -> str:
    """What an answer's record says."""
    return _text(record, ANSWER, where)


def group_of(record: Mapping[str, Any]) -> str:
    """ds_question_id as text; where there is none, the picture's name, which it is in the original's examples."""
    for name in ("ds_question_id", "image_path"):
        if (found := find(record, name)) is not None:
            return str(found)
    return ""


def picture_of(record: Mapping[str, Any]) -> str:
    """What tells the picture from others, as far as the record does: its path, or a hash of what stands there."""
    image = find(record, "image_path")
    if image is None:
        image = find(record, "image")
        image = image.get("path") or image.get("bytes") if isinstance(image, Mapping) else image
    if image is None or (isinstance(image, str) and len(image) <= LONGEST_PATH):
        return image or ""
    return hashlib.sha256(image if isinstance(image, bytes) else str(image).encode()).hexdigest()[:16]


def owner_of(record: Mapping[str, Any]) -> Owner:
    """What an answer, an item or a verdict belongs to."""
    asked = find(record, "origin_question")
    if asked is None:
        asked = next((record[name] for name in QUESTION if record.get(name) is not None), None)
    return Owner(group_of(record), str(asked), picture_of(record))


def texts_of(record: Mapping[str, Any], name: str, where: str) -> list[str]:
    """A field that holds a list of texts. Raises `UserError` where it does not."""
    found = record.get(name)
    if isinstance(found, list) and all(isinstance(text, str) for text in found):
        return found
    number = record.get("question_id")
    raise UserError(f"{where}: {name!r} of question_id {number} is {shortly(found)}; a list of texts is needed")


def shortly(value: Any) -> str:
    """For messages."""
    return shortened(repr(value))


def _text(record: Mapping[str, Any], names: tuple[str, ...], where: str) -> str:
    for name in names:
        value = record.get(name)
        if isinstance(value, str):
            return value
        if value is not None:
            raise UserError(f"{where}: {name!r} is of type {type(value).__name__}; a text is needed")
    raise UserError(f"{where}: has none of {', '.join(map(repr, names))}")
