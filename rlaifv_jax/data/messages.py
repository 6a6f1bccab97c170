"""Chat messages, as TRL, LLaVA and OpenAI write them, into turns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.templates import IMAGE_TAG, Turn

ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


class CellError(Exception):
    """A cell of the wrong type: a fault of the file, not of the row. `args` are (column, expected, found)."""

    def __init__(self, column: str, expected: str, found: Any):
        super().__init__(column, expected, type(found).__name__)


@dataclass(frozen=True)
class Dialogue:
    """Turns without image placeholders, and how many of those there were."""

    turns: tuple[Turn, ...]
    images: int = 0


def is_messages(value: Any) -> bool:
    """Whether a cell holds a list of messages rather than text."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def read_dialogue(value: Any, column: str) -> Dialogue:
    """Read a list of `{role, content}` or `{from, value}`; an image may only stand at the first question."""
    if not is_messages(value):
        raise CellError(column, "a list of messages", value)
    turns, images = [], 0
    for number, message in enumerate(value):
        role, text, count = _read_message(message, f"{column}[{number}]")
        if number == 0 and role == "user":
            text, tags = strip_placeholder(text)
            count += tags
        elif count:
            raise BadRow("image_tag_in_text", f"{column}[{number}] holds an image; only the first question may")
        images += count
        turns.append(Turn(role, text))  # type: ignore[arg-type]
    return Dialogue(tuple(turns), images)


def strip_placeholder(text: str) -> tuple[str, int]:
    """Take away one image tag at the start or end of a question, as LLaVA's data has it, and count it.

    Equals `preprocess_multimodal` of LLaVA, which moves the tag to the front. A tag in the middle stays: the
    encoder refuses it.
    """
    bare = text.strip()
    if bare.startswith(IMAGE_TAG):
        return bare.removeprefix(IMAGE_TAG).strip(), 1
    if bare.endswith(IMAGE_TAG):
        return bare.removesuffix(IMAGE_TAG).strip(), 1
    return text, 0


def check_turns(turns: Sequence[Turn], column: str) -> None:
    """Raise `BadRow` unless user and assistant take turns, a user first and last."""
    for number, turn in enumerate(turns):
        expected = "user" if number % 2 == 0 else "assistant"
        if turn.role != expected:
            raise BadRow("turn_order", f"{column}[{number}] should come from the {expected}")
    if len(turns) % 2 == 0:
        raise BadRow("turn_order", f"{column} does not end with a question from the user")


def _read_message(message: Any, where: str) -> tuple[str, str, int]:
    if not isinstance(message, Mapping):
        raise CellError(where, "a message: {role, content} or {from, value}", message)
    name = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    if name not in ROLES:
        raise BadRow("unsupported_role", f"{where} comes from {name!r}; the template has user and assistant only")
    if content is None or isinstance(content, str):
        return ROLES[name], content or "", 0
    if not is_messages(content):
        raise CellError(where, "text or a list of text and image parts", content)
    text, images = "", 0
    for part in content:
        if not isinstance(part, Mapping):
            raise CellError(where, "parts: {type: text, text} or {type: image}", part)
        if part.get("type") == "image":
            if text:
                raise BadRow("image_tag_in_text", f"{where} has an image after text; the image is placed first")
            images += 1
        elif part.get("type") == "text" or part.get("text"):
            text += part.get("text") or ""
        else:
            raise BadRow("unsupported_role", f"{where} has a part of type {part.get('type')!r}")
    return ROLES[name], text, images
