"""The world's tokenizer: LLaMA's conventions, one piece a word, the same ids in both libraries."""

from pathlib import Path

import pytest
import sentencepiece as spm
from transformers import AutoTokenizer

from rlaifv_jax.shapes.captions import sentence
from rlaifv_jax.shapes.questions import DESCRIBE, ask_if, ask_what
from rlaifv_jax.shapes.scene import Thing
from rlaifv_jax.shapes.tokenizer import OPENINGS, SYSTEM, WORDS, write_tokenizer

THING = Thing("large", "red", "circle", "top", "left")
TEXTS = [
    SYSTEM + " USER: ",
    f"\n{DESCRIBE} ASSISTANT: {sentence(THING)}",
    f"\n{ask_if(THING)} ASSISTANT: yes",
    f"\n{ask_what(3)} ASSISTANT: nothing",
    "USER: " + ask_what(3),
    "Anything else: 3 zebras, é, 漢字!\n\nand  blanks",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    assert write_tokenizer(path) == 536
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> spm.SentencePieceProcessor:
    return spm.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))


def test_every_word_is_one_piece_wherever_it_stands(model: spm.SentencePieceProcessor):
    for word in WORDS:
        assert model.encode(word, out_type=str) == ["▁" + word]
        assert model.encode(f"the {word} the", out_type=str) == ["▁the", "▁" + word, "▁the"]
    for word in OPENINGS:
        assert model.encode(f"\n{word} the", out_type=str) == ["▁", "<0x0A>", word, "▁the"]


def test_llama_ids(model: spm.SentencePieceProcessor):
    assert (model.unk_id(), model.bos_id(), model.eos_id(), model.pad_id()) == (0, 1, 2, -1)
    assert model.id_to_piece(3 + 10) == "<0x0A>"
    assert model.vocab_size() == 536


def test_lengths(model: spm.SentencePieceProcessor):
    assert len(model.encode(sentence(THING))) == len(model.encode(sentence(THING, 1))) == 11
    prompt = 1 + sum(len(model.encode(text)) for text in (f"{SYSTEM} USER: ", f"\n{ask_if(THING)} ASSISTANT:"))
    assert prompt == 40
    assert model.encode(f"{SYSTEM} USER: ", out_type=str)[-2:] == ["▁USER:", "▁"]


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back_and_transformers_agrees(folder: Path, model: spm.SentencePieceProcessor, text: str):
    ids = model.encode(text)
    assert model.decode(ids) == text
    assert 0 not in ids
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer(text).input_ids == [1, *ids]
    assert tokenizer.decode(ids) == text
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)


def test_written_twice_is_written_the_same(folder: Path, tmp_path: Path):
    write_tokenizer(tmp_path)
    for file in folder.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes()
