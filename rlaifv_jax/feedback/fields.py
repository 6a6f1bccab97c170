"""Where the records of the original keep what we look for. Every stage nests the one before it in `metainfos`.

answer    question_id, ds_question_id, raw_question, answer, metainfos = the question's record
claims    an answer with raw_facts, facts, raw_changed_facts, changed_facts
item      question_id, ds_question_id, image_path, question; metainfos = the answer's, with origin_question, …
feedback  question_id, ds_question_id, raw_question = the item's question, answer, scores; metainfos = the item
"""

from collections.abc import Mapping
from typing import Any

from rlaifv_jax.data.finder import nested
from rlaifv_jax.errors import UserError
from rlaifv_jax.records.part import Record

__all__ = ["Record", "answer_of", "find", "group_of", "owner_of", "question_of"]
QUESTION, ANSWER = ("raw_question", "prompt", "question"), ("answer", "text")  # names of these, in the original's order


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


def owner_of(record: Mapping[str, Any]) -> tuple[str, str]:
    """What an answer, an item or a verdict belongs to: the group, and the question about the picture."""
    asked = find(record, "origin_question")
    if asked is None:
        asked = next((record[name] for name in QUESTION if record.get(name) is not None), None)
    return group_of(record), str(asked)


def _text(record: Mapping[str, Any], names: tuple[str, ...], where: str) -> str:
    for name in names:
        value = record.get(name)
        if isinstance(value, str):
            return value
        if value is not None:
            raise UserError(f"{where}: {name!r} is of type {type(value).__name__}; a text is needed")
    raise UserError(f"{where}: has none of {', '.join(map(repr, names))}")
