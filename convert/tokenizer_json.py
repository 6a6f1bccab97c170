"""tokenizer.json out of tokenizer.model: the same ids from fast tokenizers as from SentencePiece.

Left to guess, transformers 5 builds a tokenizer from tokenizer.model that treats leading blanks differently.
So the normaliser is spelt out here: SentencePiece puts a blank before every piece of text and writes blanks
as ▁, and so does LLaVA for each stretch of text before and after an image.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from rlaifv_jax.errors import UserError

BLANK = "▁"
NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6  # kinds of pieces
BPE = 2  # kind of model


def write_fast_tokenizer(model: Path, folder: Path, image: int) -> None:
    """tokenizer.model, tokenizer.json and their settings in the llava-hf form.

    `<image>` gets the id `image` and `<pad>` the next one; ids between the last piece and `image` (rows that
    the model has and the tokenizer does not use) get names of their own.

    Raises:
      UserError: not LLaMA's kind of SentencePiece model.
    """
    from sentencepiece import sentencepiece_model_pb2 as messages

    proto: Any = messages  # generated at run time, unknown to type checkers
    spm = proto.ModelProto.FromString(model.read_bytes())
    _check(spm, model, image)
    vocabulary = {piece.piece: number for number, piece in enumerate(spm.pieces)}
    for number in range(len(spm.pieces), image):
        vocabulary[f"<unused_{number}>"] = number
    special = {p.piece: n for n, p in enumerate(spm.pieces) if p.type in (UNKNOWN, CONTROL)}
    special |= {"<image>": image, "<pad>": image + 1}
    unknown, begin, end = (spm.pieces[n].piece for n in (0, 1, 2))
    added = [_added(text, number) for text, number in sorted(special.items(), key=lambda item: item[1])]
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, **token} for number, token in added],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": BLANK},
                {"type": "Replace", "pattern": {"String": " "}, "content": BLANK},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [
                {"SpecialToken": {"id": begin, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
            ],
            "pair": [
                {"SpecialToken": {"id": begin, "type_id": 0}},
                {"Sequence": {"id": "A", "type_id": 0}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {begin: {"id": begin, "ids": [1], "tokens": [begin]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": BLANK}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
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
    names = {"bos_token": begin, "eos_token": end, "unk_token": unknown, "pad_token": "<pad>"}
    settings = {
        # The plain class takes tokenizer.json as it is; LlamaTokenizer of transformers 5 would rebuild it.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "processor_class": "LlavaProcessor",
        "added_tokens_decoder": {str(number): token for number, token in added},
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "image_token": "<image>",
        "legacy": True,
        "model_max_length": 1000000000000000019884624838656,
        "padding_side": "left",
        **names,
    }
    shutil.copyfile(model, folder / "tokenizer.model")
    for file, values in (
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", settings),
        ("special_tokens_map.json", names),
        ("added_tokens.json", {"<image>": image, "<pad>": image + 1}),
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


def _added(text: str, number: int) -> tuple[int, dict[str, Any]]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return number, {"content": text, **flags}


def _check(spm: Any, model: Path, rows: int) -> None:
    """Raise when the model does what the tokenizer.json above does not."""
    trainer, normalizer = spm.trainer_spec, spm.normalizer_spec
    kinds = {piece.type for piece in spm.pieces}
    problem = ""
    if trainer.model_type != BPE:
        problem = "it is not a BPE model"
    elif not trainer.byte_fallback or BYTE not in kinds:
        problem = "it has no byte fallback"
    elif normalizer.precompiled_charsmap or normalizer.remove_extra_whitespaces or not normalizer.add_dummy_prefix:
        problem = "it normalises text (LLaMA's leaves it alone but for a blank in front)"
    elif USER in kinds:
        problem = "it has user-defined pieces"
    elif len(spm.pieces) > rows:
        problem = f"it has {len(spm.pieces)} pieces, the model only {rows} rows"
    if problem:
        raise UserError(f"{model}: cannot be turned into a tokenizer.json: {problem}")
