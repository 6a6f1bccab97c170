"""What the small files beside a tokenizer's own say, checked: special and added tokens, the chat template."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rlaifv_jax.errors import UserError, shortened


def read_table(file: Path) -> dict[str, Any]:
    """A JSON object, empty where there is no file."""
    if not file.exists():
        return {}
    try:
        value = json.loads(file.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"tokenizer: {file} is not valid JSON ({error}); fetch it again") from None
    if not isinstance(value, dict):
        raise UserError(f"tokenizer: {file}: expected a JSON object, found {type(value).__name__}")
    return value


def _content(token: Any, where: str) -> str | None:
    """A token is written as plain text or as an object with `content`, by age of the file."""
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str | None):
        raise UserError(f"tokenizer: {where} is {shortened(repr(token))}; a text or an object with content is needed")
    return text


def added_tokens(folder: Path, settings: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """Id → token, of tokenizer_config.json; every token has a `content`."""
    where = f"tokenizer: {folder / 'tokenizer_config.json'}: added_tokens_decoder"
    found = settings.get("added_tokens_decoder") or {}
    if not isinstance(found, dict):
        raise UserError(f"{where} is {shortened(repr(found))}; an object is needed")
    for number, token in found.items():
        if not re.fullmatch("[0-9]{1,9}", number):
            raise UserError(f"{where} holds {shortened(repr(number))}, which is no id; a whole number is needed")
        if not isinstance(token, dict) or not isinstance(token.get("content"), str) or not token["content"]:
            raise UserError(f"{where}.{number} is {shortened(repr(token))}; an object with content is needed")
    return {int(number): token for number, token in found.items()}


def added_ids(folder: Path) -> dict[str, int]:
    """Text → id, of added_tokens.json."""
    file = folder / "added_tokens.json"
    found = read_table(file)
    for text, number in found.items():
        if not text or isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 10**9:
            raise UserError(f"tokenizer: {file}: {text!r} is {shortened(repr(number))}; an id is needed")
    return found


def no_id(folder: Path, key: str, text: str) -> UserError:
    return UserError(f"tokenizer: {folder} names {text!r} as its {key}, which has an id in none of its files")


def special_names(folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    """LLaMA's own names by key, overruled by the map file, then by the configuration."""
    names = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    map_file = folder / "special_tokens_map.json"
    for file, table in ((map_file, read_table(map_file)), (folder / "tokenizer_config.json", settings)):
        for key in (*names, "pad_token"):
            if text := _content(table.get(key), f"{file}: {key}"):
                names[key] = text
    return names


def chat_template_of(folder: Path, settings: dict[str, Any]) -> str | None:
    """In a file of its own, as transformers 5 writes it, or among the settings."""
    file = folder / "chat_template.jinja"
    try:
        if file.exists():
            return file.read_text("utf-8")
    except (ValueError, OSError) as error:
        raise UserError(f"tokenizer: {file} cannot be read ({error}); fetch it again") from None
    return default_template(settings.get("chat_template"), folder)


def default_template(found: Any, folder: Path) -> str | None:
    """A chat template, or the default one of several: by name, or in a list of objects with name and template."""
    chosen = found.get("default") if isinstance(found, dict) else found
    if isinstance(found, list):
        if not all(isinstance(each, dict) and {"name", "template"} <= each.keys() for each in found):
            raise UserError(f"tokenizer: {folder}: chat_template is a list of others than objects of name and template")
        chosen = next((each["template"] for each in found if each["name"] == "default"), None)
    if not isinstance(chosen, str | None):
        raise UserError(f"tokenizer: {folder}: chat_template is {shortened(repr(chosen))}; a text is needed")
    return chosen


def strip_flags(tokens: Iterable[Any]) -> dict[str, tuple[bool, bool]]:
    """Which special tokens eat the blanks on their left or right; only those that do."""
    flags = {}
    for token in tokens:
        if isinstance(token, dict) and isinstance(token.get("content"), str):
            left, right = bool(token.get("lstrip")), bool(token.get("rstrip"))
            if left or right:
                flags[token["content"]] = left, right
    return flags
