"""Where the records of the original keep what we look for. Every stage nests the one before it in `metainfos`.

answer    question_id, ds_question_id, raw_question, answer, metainfos = the question's record
claims    an answer with raw_facts, facts, raw_changed_facts, changed_facts
item      question_id, ds_question_id, image_path, question; metainfos = the answer's, with origin_question, …
feedback  question_id, ds_question_id, raw_question = the item's question, answer, scores; metainfos = the item
"""

from collections.abc import Iterator, Mapping
from typing import Any

from rlaifv_jax.errors import UserError

Record = dict[str, Any]


def nested(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The record, its `metainfos`, and theirs."""
    while isinstance(record, Mapping):
        yield record
        record = record.get("metainfos")  # type: ignore[assignment]


def find(record: Mapping[str, Any], name: str) -> Any:
    """A field of the record, or the outermost of what it nests; None where there is none."""
    return next((level[name] for level in nested(record) if level.get(name) is not None), None)


def question_of(record: Mapping[str, Any], where: str) -> str:
    """What an answer's record answers. Raises `UserError` where it says nothing of that."""
    return _text(record, ("raw_question", "prompt", "question"), where)


def answer_of(record: Mapping[str, Any], where: str) -> str:
    """What an answer's record says."""
    return _text(record, ("answer", "text"), where)


def group_of(record: Mapping[str, Any]) -> str:
    """ds_question_id as text; where there is none, the picture's name, which it is in the original's examples."""
    for name in ("ds_question_id", "image_path"):
        if (found := find(record, name)) is not None:
            return str(found)
    return ""


def _text(record: Mapping[str, Any], names: tuple[str, ...], where: str) -> str:
    for name in names:
        value = record.get(name)
        if isinstance(value, str):
            return value
        if value is not None:
            raise UserError(f"{where}: {name!r} is of type {type(value).__name__}; a text is needed")
    raise UserError(f"{where}: has none of {', '.join(map(repr, names))}")
