"""A tokenizer that cuts '###' as LLaMA's own does: one piece behind a blank, two at the beginning of a line."""

import json
import random
from pathlib import Path

import sentencepiece

from rlaifv_jax.data.muffin_template import MUFFIN

ADDED = ("[PAD]", "<im_patch>", "<im_start>", "<im_end>")  # in the order in which the original adds them
TEXT = "what is on the table ? a red car dog cat left right of it there are two and no yes describe"


def write_tokenizer(folder: Path) -> Path:
    """SentencePiece file and settings of a legacy LLaMA tokenizer with Muffin's tokens behind its own."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random(0)
    lines = [MUFFIN.system] * 40
    for _ in range(1500):
        said = " ".join(chance.choices(TEXT.split(), k=8))
        # '##' behind a blank is more frequent than '###', so that no '###' without a blank is made on the way.
        lines += [f"### Human: {said}", f"### Assistant: {said.capitalize()}.", f"## {said}", f"## {said}"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=500,
        byte_fallback=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    tokens = {str(model.get_piece_size() + n): {"content": text, "special": True} for n, text in enumerate(ADDED)}
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    settings = {"tokenizer_class": "LlamaTokenizer", "added_tokens_decoder": tokens, "pad_token": "[PAD]", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").write_text(json.dumps({**names, "pad_token": "[PAD]"}))
    return folder
