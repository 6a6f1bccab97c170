"""tokenizer.json out of tokenizer.model: the same ids from fast tokenizers as from SentencePiece.

Left to guess, transformers 5 builds a tokenizer from tokenizer.model that treats leading blanks differently.
So the normaliser is spelt out here: LLaMA's SentencePiece puts a blank before every piece of text and writes blanks
as ▁, and so does LLaVA for each stretch of text before and after an image. Yi's puts none there.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from rlaifv_jax.data.tokenizer import BLANK, SENTENCEPIECE_FILE, SentencePieceTokenizer
from rlaifv_jax.errors import UserError

NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6  # kinds of pieces
BPE = 2  # kind of model
ADDED = ("<image>", "<pad>")  # what transformers adds for LLaVA


def write_fast_tokenizer(source: Path, folder: Path, image: int, processor: str) -> None:
    """tokenizer.model, tokenizer.json and their settings in the llava-hf form, of the slow tokenizer in `source`.

    `<image>` gets the id `image` and `<pad>` the next one; ids between the last piece and `image` (rows that
    the model has and the tokenizer does not use) get names of their own. processor: the class that they are for.

    Raises:
      UserError: not LLaMA's kind of SentencePiece model.
    """
    from sentencepiece import sentencepiece_model_pb2 as messages

    proto: Any = messages  # generated at run time, unknown to type checkers
    slow, model = SentencePieceTokenizer(source), source / SENTENCEPIECE_FILE
    spm = proto.ModelProto.FromString(model.read_bytes())
    _check(spm, model, image)
    vocabulary = {piece.piece: number for number, piece in enumerate(spm.pieces)}
    for number in range(len(spm.pieces), image):
        vocabulary[f"<unused_{number}>"] = number
    special = {p.piece: n for n, p in enumerate(spm.pieces) if p.type in (UNKNOWN, CONTROL)}
    special |= {text: image + n for n, text in enumerate(ADDED)}
    named = dict(slow.named_tokens)
    unknown, begin, end = (named[key] for key in ("unk_token", "bos_token", "eos_token"))
    whole = {p.piece.replace(BLANK, " "): n for n, p in enumerate(spm.pieces) if p.type == USER} | special
    added = {
        number: as_special(text) | {"special": text in special or text == end}
        for text, number in sorted(whole.items(), key=lambda item: item[1])
    }
    blank = {"type": "Replace", "pattern": {"String": " "}, "content": BLANK}
    dummy = spm.normalizer_spec.add_dummy_prefix
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, **token} for number, token in added.items()],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": BLANK}, blank] if dummy else [blank],
        },
        "pre_tokenizer": None,
        "post_processor": None if slow.bos_id is None else _led_by(begin, slow.bos_id),
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                *([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if dummy else []),
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges(spm),
        },
    }
    names = {"bos_token": begin, "eos_token": end, "unk_token": unknown, "pad_token": ADDED[1]}
    settings = {
        # The plain class takes tokenizer.json as it is; LlamaTokenizer of transformers 5 would rebuild it.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": processor,
        "added_tokens_decoder": {str(number): token for number, token in added.items()},
        "add_bos_token": slow.bos_id is not None,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "image_token": ADDED[0],
        "legacy": True,
        "model_max_length": 1000000000000000019884624838656,
        "padding_side": "left",
        **names,
    }
    shutil.copyfile(model, folder / SENTENCEPIECE_FILE)
    for file, values in (
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", settings),
        ("special_tokens_map.json", names),
        ("added_tokens.json", {text: image + n for n, text in enumerate(ADDED)}),
    ):
        (folder / file).write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")


def merges(spm: Any) -> list[list[str]]:
    """Pairs in the order BPE applies them: by the SentencePiece score of the piece a pair makes."""
    normal = {p.piece: n for n, p in enumerate(spm.pieces) if p.type == NORMAL}
    ranked = sorted(normal, key=lambda piece: (-spm.pieces[normal[piece]].score, normal[piece]))
    pairs = []
    for piece in ranked:
        cuts = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
        halves = [(left, right) for left, right in cuts if left in normal and right in normal]
        pairs += sorted(halves, key=lambda pair: (normal[pair[0]], normal[pair[1]]))
    return [list(pair) for pair in pairs]


def as_special(text: str) -> dict[str, Any]:
    """A token as tokenizer files describe it."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"content": text, **flags}


def _led_by(begin: str, number: int) -> dict[str, Any]:
    """The post-processor that puts BOS in front."""
    first: list[dict[str, Any]] = [
        {"SpecialToken": {"id": begin, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]
    return {
        "type": "TemplateProcessing",
        "single": first,
        "pair": [*first, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {begin: {"id": begin, "ids": [number], "tokens": [begin]}},
    }


def _check(spm: Any, model: Path, rows: int) -> None:
    """Raise when the model does what the tokenizer.json above does not."""
    trainer, normalizer = spm.trainer_spec, spm.normalizer_spec
    kinds = {piece.type for piece in spm.pieces}
    problem = ""
    if trainer.model_type != BPE:
        problem = "it is not a BPE model"
    elif not trainer.byte_fallback or BYTE not in kinds:
        problem = "it has no byte fallback"
    elif normalizer.precompiled_charsmap or normalizer.remove_extra_whitespaces:
        problem = "it normalises text (LLaMA's leaves it alone but for a blank in front)"
    elif USER in kinds and normalizer.add_dummy_prefix:
        problem = "it has user-defined pieces, and puts a blank in front of texts but not behind such pieces"
    elif len(spm.pieces) > rows:
        problem = f"it has {len(spm.pieces)} pieces, the model only {rows} rows"
    if problem:
        raise UserError(f"{model}: cannot be turned into a tokenizer.json ({problem}); put one beside it")
