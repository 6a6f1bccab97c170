"""The tokenizer files of an exported LLaVA-1.5 or LLaVA-NeXT.

transformers has tokens `<image>` and `<pad>` behind those of the language model, the original has not. So the way to
transformers adds them, and the way back takes them out. A tokenizer.model goes both ways as it is, with files that say
the same beside it; where there is only a tokenizer.json, that is changed.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from convert.tokenizer_json import ADDED, as_special, write_fast_tokenizer
from rlaifv_jax.cli import say
from rlaifv_jax.data.tokenizer import FAST_FILE, SENTENCEPIECE_FILE, SentencePieceTokenizer
from rlaifv_jax.data.tokenizer_files import read_table
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.hf_config import Json

SETTINGS, NAMES = "tokenizer_config.json", "special_tokens_map.json"


def write_hf_tokenizer(source: Path, folder: Path, image: int, processor: str) -> None:
    """That of `source` with the id `image` for `<image>` and the next one for `<pad>`. processor: its class.

    Raises:
      UserError: it has more tokens than the model rows, or is none that a tokenizer.json can be made of.
    """
    if (source / SENTENCEPIECE_FILE).exists():
        write_fast_tokenizer(source, folder, image, processor)
    elif (source / FAST_FILE).exists():
        _extend(source, folder, image, processor)
    else:
        _say_none(source)


def write_original_tokenizer(source: Path, folder: Path, rows: int) -> None:
    """That of `source` without tokens beyond the model's rows."""
    if (source / SENTENCEPIECE_FILE).exists():
        _slow(source, folder)
    elif (source / FAST_FILE).exists():
        _shorten(source, folder, rows)
    else:
        _say_none(source)


def _say_none(source: Path) -> None:
    say(f"note: {source} has no {SENTENCEPIECE_FILE} and no {FAST_FILE}, so the export has no tokenizer")


def _slow(source: Path, folder: Path) -> None:
    """tokenizer.model with the settings of a slow LLaMA tokenizer."""
    shutil.copyfile(source / SENTENCEPIECE_FILE, folder / SENTENCEPIECE_FILE)
    found = SentencePieceTokenizer(source)
    named = dict(found.named_tokens)
    special = {key: named[key] for key in ("bos_token", "eos_token", "unk_token")} | {"pad_token": named["unk_token"]}
    settings: Json = {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": found.bos_id is not None,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "legacy": True,
        "model_max_length": 2048,
        "padding_side": "right",
    }
    _write(folder / NAMES, special)
    _write(folder / SETTINGS, settings | special)


def _extend(source: Path, folder: Path, image: int, processor: str) -> None:
    """tokenizer.json with the two tokens; ids before them that it does not use get names of their own."""
    from tokenizers import AddedToken, Tokenizer

    tokenizer = Tokenizer.from_file(str(source / FAST_FILE))
    used = 1 + max(tokenizer.get_vocab().values())
    if used > image:
        raise UserError(f"{source / FAST_FILE}: it has {used} tokens, the model only {image} rows")
    tokenizer.add_tokens([AddedToken(f"<unused_{number}>", normalized=False) for number in range(used, image)])
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in ADDED])
    tokenizer.save(str(folder / FAST_FILE))
    settings, pad = read_table(source / SETTINGS), {"pad_token": ADDED[1]}
    tokens = (settings.get("added_tokens_decoder") or {}) | {
        str(number): as_special(text) for number, text in enumerate(ADDED, image)
    }
    changes = {"added_tokens_decoder": tokens, "image_token": ADDED[0], "processor_class": processor, **pad}
    _write(folder / SETTINGS, settings | changes)
    _write(folder / NAMES, read_table(source / NAMES) | pad)


def _shorten(source: Path, folder: Path, rows: int) -> None:
    """tokenizer.json without the tokens that lie beyond the rows."""
    table = read_table(source / FAST_FILE)
    added = table.get("added_tokens") or []
    gone = {token["content"] for token in added if token["id"] >= rows}
    _write(folder / FAST_FILE, table | {"added_tokens": [token for token in added if token["id"] < rows]})
    for name in (SETTINGS, NAMES):
        found = _without(read_table(source / name), gone)
        unknown = {"pad_token": found["unk_token"]} if "unk_token" in found else {}
        _write(folder / name, {key: value for key, value in found.items() if key != "processor_class"} | unknown)


def _without(value: Any, gone: set[str]) -> Any:
    """A JSON value without what names one of the tokens `gone`."""

    def stays(part: Any) -> bool:
        text = part.get("content") if isinstance(part, dict) else part
        return not isinstance(text, str) or text not in gone

    if isinstance(value, dict):
        return {key: _without(part, gone) for key, part in value.items() if stays(part)}
    return [_without(part, gone) for part in value if stays(part)] if isinstance(value, list) else value


def _write(file: Path, values: Json) -> None:
    file.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
