"""The forms of preference and SFT data that are understood, recognised by their columns.

    RLHF-V     image, text = JSON {question, chosen, rejected}        HaoyeZhang/RLHF-V-Dataset
    RLAIF-V    image, question, chosen, rejected                     openbmb/RLAIF-V-Dataset, our output
    TRL        images or image, prompt, chosen, rejected             texts or messages
    TRL, implicit prompt   chosen, rejected = whole conversations    messages
    SFT        question, answer | messages | conversations           {role, content}, LLaVA {from, value}

A form turns the text columns of a row into turns and answers; images are found apart from it (`pictures.py`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.messages import (
    CellError,
    Dialogue,
    check_turns,
    is_messages,
    read_dialogue,
    strip_placeholder,
)
from rlaifv_jax.data.templates import Turn

Row = Mapping[str, Any]
RLHF_V = "RLHF-V"  # the form whose texts are one JSON object


@dataclass(frozen=True)
class Parsed:
    """The texts of a row; `images` counts the placeholders it held."""

    turns: tuple[Turn, ...]
    answers: tuple[str, ...]
    images: int = 0


@dataclass(frozen=True)
class Form:
    """A named way to read rows; `pairs` tells whether they hold a rejected answer."""

    name: str
    pairs: bool
    read: Callable[[Row], Parsed]


def detect(columns: Sequence[str], first: Row) -> Form | None:
    """The form of a table with these columns and this first row, or None."""
    known = set(columns)
    if {"question", "chosen", "rejected"} <= known:
        return Form("RLAIF-V", True, _read_rlaifv)
    if "text" in known and {"question", "chosen", "rejected"} <= set(_json_object(first.get("text"))):
        return Form(RLHF_V, True, _read_rlhfv)
    if {"prompt", "chosen", "rejected"} <= known:
        return Form("TRL", True, _read_trl)
    if {"chosen", "rejected"} <= known and is_messages(first.get("chosen")):
        return Form("TRL, implicit prompt", True, _read_implicit)
    if {"question", "answer"} <= known:
        return Form("SFT, question and answer", False, _read_question_answer)
    for column in ("messages", "conversations"):
        if column in known:
            return Form(f"SFT, {column}", False, partial(_read_conversation, column=column))
    return None


def _json_object(value: Any) -> dict[str, Any]:
    try:
        parsed = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _text(row: Row, column: str) -> str:
    """A text cell. An empty cell is a fault of the row, which the encoder names."""
    value = row.get(column)
    if value is not None and not isinstance(value, str):
        raise CellError(column, "text", value)
    return value or ""


def _read_rlaifv(row: Row) -> Parsed:
    return Parsed((Turn("user", _text(row, "question")),), (_text(row, "chosen"), _text(row, "rejected")))


def _read_rlhfv(row: Row) -> Parsed:
    inner = _json_object(row.get("text"))
    if not inner:
        raise CellError("text", "JSON text of an object with question, chosen, rejected", row.get("text"))
    return _read_rlaifv(inner)


def _read_question_answer(row: Row) -> Parsed:
    question, images = strip_placeholder(_text(row, "question"))
    return Parsed((Turn("user", question),), (_text(row, "answer"),), images)


def _read_conversation(row: Row, column: str) -> Parsed:
    dialogue = read_dialogue(row.get(column), column)
    turns, answer = _split_answer(dialogue, column)
    return Parsed(turns, (answer,), dialogue.images)


def _split_answer(dialogue: Dialogue, column: str) -> tuple[tuple[Turn, ...], str]:
    """The turns before the last one, which must be the assistant's, and its text."""
    if not dialogue.turns or dialogue.turns[-1].role != "assistant":
        raise BadRow("turn_order", f"{column} does not end with an answer of the assistant")
    turns = dialogue.turns[:-1]
    check_turns(turns, column)
    return turns, dialogue.turns[-1].text


def _read_trl(row: Row) -> Parsed:
    if is_messages(row.get("prompt")):
        dialogue = read_dialogue(row["prompt"], "prompt")
    else:
        text, images = strip_placeholder(_text(row, "prompt"))
        dialogue = Dialogue((Turn("user", text),), images)
    check_turns(dialogue.turns, "prompt")
    answers = tuple(_completion(row, column) for column in ("chosen", "rejected"))
    return Parsed(dialogue.turns, answers, dialogue.images)


def _completion(row: Row, column: str) -> str:
    """An answer beside a prompt: text, or a list of one message of the assistant."""
    if not is_messages(row.get(column)):
        return _text(row, column)
    turns = read_dialogue(row[column], column).turns
    if len(turns) != 1 or turns[0].role != "assistant":
        raise BadRow("turn_order", f"{column} should hold one message of the assistant, it holds {len(turns)}")
    return turns[0].text


def _read_implicit(row: Row) -> Parsed:
    chosen, rejected = (read_dialogue(row.get(column), column) for column in ("chosen", "rejected"))
    turns, good = _split_answer(chosen, "chosen")
    others, bad = _split_answer(rejected, "rejected")
    if turns != others:
        raise BadRow("prefix_mismatch", "chosen and rejected do not share all messages before the last one")
    return Parsed(turns, (good, bad), chosen.images)
