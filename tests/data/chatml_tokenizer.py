"""Tokenizers like that of LLaVA-NeXT 34B (Yi): ChatML's marks are pieces, no dummy blank, no BOS in front."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlaifv_jax.data.chatml_template import END, START
from tests.conftest import train_tokenizer

BEGIN_TEXT, END_TEXT = "<|startoftext|>", "<|endoftext|>"


def write_tokenizer(folder: Path, words: Sequence[str] = (), **changes: Any) -> Path:
    """SentencePiece file and settings, as the original has them: the marks are among no added tokens. words: pieces as
    well. changes: of the settings."""
    train_tokenizer(
        folder,
        bos_piece=BEGIN_TEXT,
        eos_piece=END_TEXT,
        user_defined_symbols=[START, END, *words],
        add_dummy_prefix=False,
    )
    names = {"bos_token": BEGIN_TEXT, "eos_token": END, "unk_token": "<unk>", "pad_token": "<unk>"}
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": False, "add_eos_token": False, "legacy": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | names | changes))
    (folder / "special_tokens_map.json").write_text(
        json.dumps(names | {k: v for k, v in changes.items() if k in names})
    )
    return folder
