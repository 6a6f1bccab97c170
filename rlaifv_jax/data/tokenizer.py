"""Text to token ids and back, exactly as the models were trained.

Vicuna, Mistral and their kin come with a SentencePiece model, and RLAIF-V used transformers' former slow
LLaMA tokenizer on it. That class is gone from transformers 5: `AutoTokenizer` builds a fast tokenizer
instead, which treats blanks otherwise (a chunk that begins with a blank always, and every chunk when it is
guessed from a directory without `tokenizer.json`). A blank more or less moves the label mask, so we drive
SentencePiece ourselves. Models without `tokenizer.model` (Llama-3) only ever had fast tokenizers; they get
`AutoTokenizer`.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from rlaifv_jax.data.tokenizer_files import (
    added_ids,
    added_tokens,
    chat_template_of,
    default_template,
    no_id,
    read_table,
    special_names,
    strip_flags,
)
from rlaifv_jax.errors import UserError

SENTENCEPIECE_FILE = "tokenizer.model"
FAST_FILE = "tokenizer.json"
BLANK = "▁"
TURN_ENDS = ("<|eot_id|>", "<|im_end|>")  # of Llama-3 and of ChatML, whose eos_token may be another


class Tokenizer(Protocol):
    """What the rest of the project asks of a tokenizer. Implementations pickle by path."""

    bos_id: int | None
    eos_id: int
    pad_id: int
    vocab_size: int  # ids run from 0 to vocab_size - 1, added tokens included
    legacy: bool  # LLaMA's `legacy` flag: a dummy blank after every special token, not only at the start
    special_tokens: tuple[str, ...]  # strings that never become ordinary tokens
    named_tokens: tuple[tuple[str, str], ...]  # ('bos_token', '<s>') and so on
    chat_template: str | None  # the model's own conversation template, in Jinja
    turn_ends: tuple[int, ...]  # ids that end a turn beside eos_id
    fingerprint: str  # SHA-256 of what decides the ids

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, led by BOS where the model uses one."""

    def encode_bare(self, text: str) -> list[int]:
        """Ids of `text` with nothing added; special tokens that are written out are kept whole."""

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of `ids`. Ends of turns count as special."""


def is_tokenizer(folder: Path) -> bool:
    """Whether a directory holds one."""
    return any((folder / name).is_file() for name in (SENTENCEPIECE_FILE, FAST_FILE))


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Open the tokenizer in the directory `path`. Raises `UserError` when it holds none."""
    folder = Path(path)
    if not folder.is_dir():
        raise UserError(f"tokenizer: {folder} is not a directory; give that of a model")
    if (folder / SENTENCEPIECE_FILE).is_file():
        return SentencePieceTokenizer(folder)
    if (folder / FAST_FILE).is_file():
        return FastTokenizer(folder)
    raise UserError(
        f"tokenizer: {folder} holds neither {SENTENCEPIECE_FILE} (SentencePiece) nor {FAST_FILE} (fast); "
        "copy the tokenizer files of the model there"
    )


class SentencePieceTokenizer:
    """The slow LLaMA tokenizer of transformers 4 on a SentencePiece model, `legacy` and not.

    The text is first cut at special and added tokens. Legacy: SentencePiece puts its dummy blank before every
    piece of text in between. Not legacy: only before the first, and none if a special token opens the text.
    """

    def __init__(self, folder: str | Path):
        import sentencepiece

        self._folder = Path(folder)
        file = self._folder / SENTENCEPIECE_FILE
        settings = read_table(self._folder / "tokenizer_config.json")
        self.legacy = settings.get("legacy") is not False  # absent means legacy, as in transformers 4
        self._add_bos = bool(settings.get("add_bos_token", True))
        blob = file.read_bytes()
        self._model = sentencepiece.SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(blob if self.legacy else _without_dummy_blank(blob))
        except Exception as error:
            raise UserError(f"tokenizer: {file} is not a SentencePiece model ({error}); fetch it again") from None
        names = special_names(self._folder, settings)
        tokens = added_tokens(self._folder, settings)
        self._added = self._added_ids(tokens, names)
        self.special_tokens = tuple(self._added)
        self.turn_ends = tuple(token for token in map(self._token, TURN_ENDS) if token is not None)
        self.named_tokens = tuple(sorted(names.items()))
        self.chat_template = chat_template_of(self._folder, settings)
        special = read_table(self._folder / "special_tokens_map.json")
        self._strips = strip_flags([*special.values(), *settings.values(), *tokens.values()])
        self._texts = {number: text for text, number in self._added.items()}
        longest_first = sorted(self._added, key=len, reverse=True)
        self._cut = re.compile("(" + "|".join(map(re.escape, longest_first)) + ")")
        self.bos_id = self._added[names["bos_token"]] if self._add_bos else None
        self.eos_id = self._added[names["eos_token"]]
        self.pad_id = self._added[names["unk_token"]]  # the original sets pad := unk, whatever the files say
        self._unk = names["unk_token"]
        self._unk_length = len(self._model.encode(self._unk))
        self.vocab_size = max(self._model.get_piece_size(), 1 + max(self._added.values()))
        decisive = [self.legacy, self._add_bos, sorted(self._added.items()), sorted(self._strips.items())]
        self.fingerprint = hashlib.sha256(blob + json.dumps(decisive).encode()).hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self._folder),)

    def _added_ids(self, tokens: dict[int, Any], names: dict[str, str]) -> dict[str, int]:
        """Every string that is kept whole, with its id: the special ones, then those the files add.

        tokens: see `added_tokens`.
        """
        added = {}
        size = self._model.get_piece_size()
        for name in ("unk_token", "bos_token", "eos_token"):
            number = self._model.piece_to_id(names[name])
            if self._model.id_to_piece(number) == names[name]:
                added[names[name]] = number
        added |= {token["content"]: number for number, token in tokens.items()}
        added |= added_ids(self._folder)
        for key, text in names.items():
            if text not in added:
                piece = self._model.piece_to_id(text)
                known = self._model.id_to_piece(piece) == text
                if not known and (key in ("eos_token", "unk_token") or (key == "bos_token" and self._add_bos)):
                    raise no_id(self._folder, key, text)
                # Others that are in no table get the next free id, as transformers gives it.
                added[text] = piece if known else max(size, 1 + max(added.values(), default=-1))
        return added

    def _token(self, text: str) -> int | None:
        """The id of a text that is a piece or an added token."""
        piece: int = self._model.piece_to_id(text)
        return self._added.get(text, piece if self._model.id_to_piece(piece) == text else None)

    def encode(self, text: str) -> list[int]:
        """Ids of `text` with BOS in front."""
        ids = [] if self.bos_id is None else [self.bos_id]
        if not self.legacy and text:
            text = BLANK + text.replace(BLANK, " ")
        chunks = self._cut.split(text)
        for place in range(1, len(chunks), 2):  # odd places hold the special tokens
            left, right = self._strips.get(chunks[place], (False, False))
            if left:
                chunks[place - 1] = chunks[place - 1].rstrip()
            if right:
                chunks[place + 1] = chunks[place + 1].lstrip()
        if not self.legacy and len(chunks) > 1 and chunks[0] == BLANK:
            chunks[0] = ""  # a text that opens with a special token gets no dummy blank
        for place, chunk in enumerate(chunks):
            if chunk:
                ids += [self._added[chunk]] if place % 2 else self._encode_plain(chunk)
        return ids

    def encode_bare(self, text: str) -> list[int]:
        return self.encode(text)[self.bos_id is not None :]

    def _encode_plain(self, text: str) -> list[int]:
        if self.legacy or not text.startswith((BLANK, " ")):
            return self._model.encode(text)
        # Without its dummy blank SentencePiece also swallows a real one at the start; a shield in front saves
        # it.
        return self._model.encode(self._unk + text)[self._unk_length :]

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of `ids`; the dummy blank at the start is dropped."""
        text, run = "", list[int]()
        for number in map(int, ids):
            if number not in self._texts and not (skip_special and number in self.turn_ends):
                run.append(number)
            elif not skip_special:
                text += self._decode_plain(run, first=not text) + self._texts[number]
                run = []
        return text + self._decode_plain(run, first=not text)

    def _decode_plain(self, ids: list[int], first: bool) -> str:
        text = self._model.decode(ids)  # a legacy model takes its own dummy blank away
        return text[1:] if first and not self.legacy and text.startswith(" ") else text


class FastTokenizer:
    """A `tokenizer.json` through transformers, for models that have no SentencePiece file."""

    def __init__(self, folder: str | Path):
        import tokenizers
        from transformers import AutoTokenizer, PreTrainedTokenizerFast

        self._folder = Path(folder)
        settings = read_table(self._folder / "tokenizer_config.json")
        try:
            # Classes that come as code in the directory, as MiniCPM-V's, only add names to the plain one; none is run.
            if settings.get("auto_map"):
                self._hf: Any = PreTrainedTokenizerFast.from_pretrained(str(self._folder))
            else:  # which may ask whether to run a config's code
                options = {"config": _config(self._folder), "trust_remote_code": False}
                self._hf = AutoTokenizer.from_pretrained(str(self._folder), **options)
        except Exception as error:
            why = " ".join(str(error).split())
            raise UserError(f"tokenizer: transformers cannot open {self._folder} ({why}); fetch it again") from None
        text = self._hf.eos_token
        if self._hf.eos_token_id is None:
            raise UserError(f"tokenizer: {self._folder} names no eos_token; write it into tokenizer_config.json")
        added = [token["content"] for token in added_tokens(self._folder, settings).values()]
        stored = tokenizers.Tokenizer.from_file(str(self._folder / FAST_FILE)).token_to_id(text) is not None
        if not stored and text not in added and text not in added_ids(self._folder):
            raise no_id(self._folder, "eos_token", text)
        opens_with_bos = self._hf("a").input_ids[:1] == [self._hf.bos_token_id]
        self.bos_id: int | None = self._hf.bos_token_id if opens_with_bos else None
        self.eos_id: int = self._hf.eos_token_id
        self.pad_id: int = 0 if self._hf.unk_token_id is None else self._hf.unk_token_id
        self.vocab_size = len(self._hf)
        self.legacy = True  # no dummy blanks at all, so nothing to correct in later rounds
        special = (str(token) for token in self._hf.added_tokens_decoder.values() if token.special)
        self.special_tokens = tuple(dict.fromkeys([*self._hf.all_special_tokens, *special]))
        named = self._hf.special_tokens_map.items()
        self.named_tokens = tuple(sorted((name, text) for name, text in named if isinstance(text, str)))
        self.chat_template = default_template(self._hf.chat_template, self._folder)
        vocabulary = self._hf.get_vocab()
        self.turn_ends: tuple[int, ...] = tuple(vocabulary[text] for text in TURN_ENDS if text in vocabulary)
        digest = hashlib.sha256()
        for name in (FAST_FILE, "tokenizer_config.json", "special_tokens_map.json"):
            file = self._folder / name
            digest.update(name.encode() + (file.read_bytes() if file.exists() else b""))
        self.fingerprint = digest.hexdigest()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self._folder),)

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, led by BOS if the tokenizer's own post-processor adds one."""
        return list(self._hf(text).input_ids)

    def encode_bare(self, text: str) -> list[int]:
        return list(self._hf(text, add_special_tokens=False).input_ids)

    def decode(self, ids: Sequence[int], skip_special: bool = True) -> str:
        """Text of `ids`."""
        shown = [token for token in ids if not (skip_special and token in self.turn_ends)]
        return str(self._hf.decode(shown, skip_special_tokens=skip_special))


def _config(folder: Path) -> Any:
    """A config without sizes for a model that transformers does not know; None: it reads the folder's own."""
    from transformers import CONFIG_MAPPING, PreTrainedConfig

    kind = read_table(folder / "config.json").get("model_type")
    return None if kind is None or kind in CONFIG_MAPPING else PreTrainedConfig.from_dict({"model_type": kind})


def _without_dummy_blank(blob: bytes) -> bytes:
    from sentencepiece import sentencepiece_model_pb2 as proto

    model = proto.ModelProto.FromString(blob)  # type: ignore[attr-defined]  # generated code
    model.normalizer_spec.add_dummy_prefix = False
    return model.SerializeToString()
