"""A tokenizer of the small world in LLaMA's form, in which every word of the world is one piece.

The vocabulary is written by hand, not trained: for each word the chain of its beginnings ("▁c", "▁ci" …
"▁circle"), so that byte-pair merging walks from the first letter to the whole word. It is true BPE, therefore
sentencepiece and transformers agree on it. Anything else falls apart into letters and bytes, as with LLaMA.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sentencepiece import sentencepiece_model_pb2 as _generated

from rlaifv_jax.shapes.scene import COLORS, COLS, ROWS, SHAPES, SIZES

spm_pb2: Any = _generated  # classes made at run time, invisible to type checkers

UNK, BOS, EOS = 0, 1, 2
SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)  # of the template llava_v1
_PLAIN = "there is a in the i see at . describe image what ? yes no nothing USER: ASSISTANT:"
WORDS = tuple(dict.fromkeys([*_PLAIN.split(), *SIZES, *COLORS, *SHAPES, *ROWS, *COLS, *SYSTEM.split()]))
OPENINGS = ("describe", "is", "what")  # follow a line break, hence need a piece without the blank before them
_MULTIPLE = 8  # of the vocabulary size, so that it divides over a small mesh


def write_tokenizer(
    directory: str | Path,
    words: Sequence[str] = WORDS,
    openings: Sequence[str] = OPENINGS,
    max_length: int = 2048,
) -> int:
    """Write tokenizer.model, tokenizer_config.json and special_tokens_map.json; return the vocabulary size.

    Ids: 0 <unk> (also padding), 1 <s>, 2 </s>, 3…258 the bytes, then merged pieces, then single characters.
    The same words give the same bytes.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    model = build_model(words, openings)
    (folder / "tokenizer.model").write_bytes(model.SerializeToString(deterministic=True))
    config = {
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": "<s>",
        "clean_up_tokenization_spaces": False,
        "eos_token": "</s>",
        "legacy": True,
        "model_max_length": max_length,
        "pad_token": "<unk>",
        "padding_side": "right",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
        "unk_token": "<unk>",
        "use_default_system_prompt": False,
    }
    special = {name: config[name] for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    return len(model.pieces)


def build_model(words: Sequence[str] = WORDS, openings: Sequence[str] = OPENINGS) -> Any:
    """The vocabulary as a sentencepiece `ModelProto`: BPE with byte fallback, a blank put before a text."""
    kinds = spm_pb2.ModelProto.SentencePiece
    model = spm_pb2.ModelProto()
    model.pieces.add(piece="<unk>", score=0, type=kinds.UNKNOWN)
    model.pieces.add(piece="<s>", score=0, type=kinds.CONTROL)
    model.pieces.add(piece="</s>", score=0, type=kinds.CONTROL)
    for byte in range(256):
        model.pieces.add(piece=f"<0x{byte:02X}>", score=0, type=kinds.BYTE)
    characters = sorted(set("▁" + "".join(words)))
    pieces = [*_chains(["▁" + word for word in words]), *_chains(openings), *characters]
    pieces += [f"<unused_{k}>" for k in range(-(len(model.pieces) + len(pieces)) % _MULTIPLE)]
    for rank, piece in enumerate(pieces):
        kind = kinds.UNUSED if piece.startswith("<unused_") else kinds.NORMAL
        model.pieces.add(piece=piece, score=-rank, type=kind)
    spec = model.trainer_spec
    spec.model_type = spm_pb2.TrainerSpec.BPE
    spec.vocab_size = len(model.pieces)
    spec.byte_fallback = True
    spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id = UNK, BOS, EOS, -1
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = False
    model.normalizer_spec.escape_whitespaces = True
    return model


def _chains(words: Sequence[str]) -> list[str]:
    """All beginnings of two or more characters, shorter ones first: the order in which BPE merges them."""
    beginnings = {word[:n] for word in words for n in range(2, len(word) + 1)}
    return sorted(beginnings, key=lambda piece: (len(piece), piece))
