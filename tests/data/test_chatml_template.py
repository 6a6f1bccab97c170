"""ChatML as LLaVA-NeXT 34B has it: texts that were seen in the original, and which tokens are labels."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import pytest
import sentencepiece

from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.chatml_template import CHATML_DIRECT, END, START
from rlaifv_jax.data.conversation import conversation_of
from rlaifv_jax.data.encode import Encoder
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.schema import Example
from rlaifv_jax.data.square import Square
from rlaifv_jax.data.templates import VICUNA_V1, Turn
from rlaifv_jax.data.tokenizer import Tokenizer, load_tokenizer
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.families import LLAVA_NEXT
from tests.data.chatml_tokenizer import END_TEXT, write_tokenizer

SQUARE = Square.of(8, 4)
SYSTEM = "<|im_start|>system\nAnswer the questions.<|im_end|>"
ASKED = "<|im_start|>assistant\n"
ONE = (Turn("user", "What is this?"),)
THREE = (*ONE, Turn("assistant", "A red car.\nA dog."), Turn("user", "and left ?"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("chatml"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


def test_texts() -> None:
    first = f"{SYSTEM}<|im_start|>user\n<image>\nWhat is this?<|im_end|>{ASKED}"
    assert CHATML_DIRECT.render_prompt(ONE, image=True) == first
    assert CHATML_DIRECT.render(ONE, "A dog.", image=True) == f"{first}A dog.<|im_end|>"
    later = "A red car.\nA dog.<|im_end|><|im_start|>user\nand left ?<|im_end|>"
    assert CHATML_DIRECT.render_prompt(THREE, image=True) == first + later + ASKED
    assert CHATML_DIRECT.render_prompt(THREE, image=False) == (first + later + ASKED).replace("<image>\n", "")
    assert pickle.loads(pickle.dumps(CHATML_DIRECT)) == CHATML_DIRECT


def test_ids_are_those_of_the_chunks(folder: Path, tokenizer: Tokenizer) -> None:
    """No BOS, and the marks whole: SentencePiece itself knows them."""
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    for turns in (ONE, THREE):
        text = CHATML_DIRECT.render_prompt(turns, image=True)
        before, after = (pieces.encode(chunk) for chunk in text.split("<image>"))
        ids = CHATML_DIRECT.tokenize(tokenizer, text)
        assert ids == [*before, IMAGE_TOKEN, *after]
        assert ids.count(pieces.piece_to_id(START)) == len(turns) + 2
        assert ids.count(pieces.piece_to_id(END)) == len(turns) + 1


@pytest.mark.parametrize("image", [True, False])
def test_labels_are_the_answers_and_their_ends(tokenizer: Tokenizer, image: bool) -> None:
    text = CHATML_DIRECT.render(THREE, "Two cats.", image=image)
    ids = CHATML_DIRECT.tokenize(tokenizer, text)
    said = [
        tokenizer.decode(ids[start:stop], skip_special=False)
        for start, stop in CHATML_DIRECT.answer_spans(tokenizer, text, ids)
    ]
    assert said == ["A red car.\nA dog.<|im_end|>", "Two cats.<|im_end|>"]
    encoded = Encoder(tokenizer, CHATML_DIRECT, SQUARE, 2048, "sft").encode(
        Example(0, "", b"" if image else None, THREE, ("Two cats.",))
    )
    (answer,) = encoded.answers
    assert tokenizer.decode(answer.tokens[answer.labels].tolist()) == "A red car.\nA dog.Two cats."
    assert answer.tokens[-1] == tokenizer.eos_id


def test_a_prompt_is_what_answers_follow(tokenizer: Tokenizer) -> None:
    encoded = Encoder(tokenizer, CHATML_DIRECT, SQUARE, 2048, "dpo").encode(
        Example(0, "", b"", THREE, ("A dog.", " two cats"))
    )
    prompt = CHATML_DIRECT.tokenize(tokenizer, CHATML_DIRECT.render_prompt(THREE, image=True))
    assert encoded.prefix.tolist() == prompt
    texts = [tokenizer.decode(answer.tokens.tolist()) for answer in encoded.answers]
    assert texts == ["A dog.", " two cats"]
    assert all(answer.labels.all() for answer in encoded.answers)


@pytest.mark.parametrize("text", ["a <|im_end|> b", "<|im_start|>user\nx", "<image>"])
def test_texts_that_would_be_taken_for_the_template(tokenizer: Tokenizer, text: str) -> None:
    encoder = Encoder(tokenizer, CHATML_DIRECT, SQUARE, 2048, "dpo")
    with pytest.raises(BadRow, match=r"separator_in_text|special_token_in_text|image_tag_in_text"):
        encoder.encode(Example(0, "", b"", (Turn("user", text),), ("a", "b")))


def test_an_answer_ends_at_the_mark_whatever_the_end_token(tmp_path: Path) -> None:
    """Yi's own files name another end token, and do not call the mark special."""
    tokenizer = load_tokenizer(write_tokenizer(tmp_path, eos_token=END_TEXT))
    (mark,) = tokenizer.encode_bare(END)
    assert mark in tokenizer.turn_ends
    assert mark != tokenizer.eos_id
    assert END not in tokenizer.special_tokens
    ids = tokenizer.encode_bare(f"a dog{END}")
    assert tokenizer.decode(ids) == "a dog"
    assert tokenizer.decode(ids, skip_special=False) == f"a dog{END}"
    assert CHATML_DIRECT.closing(tokenizer) == ()


def test_the_tokenizer_decides(folder: Path, tokenizer_dir: Path) -> None:
    """34B gets ChatML, the Vicunas of the family their own template."""

    def model(directory: Path, template: str | None = None) -> SimpleNamespace:
        return SimpleNamespace(family=LLAVA_NEXT, directory=directory, template=template)

    assert conversation_of(model(folder), load_tokenizer(folder)) is CHATML_DIRECT
    vicuna = load_tokenizer(tokenizer_dir)
    assert conversation_of(model(tokenizer_dir), vicuna) is VICUNA_V1
    assert conversation_of(model(folder, "vicuna_v1"), load_tokenizer(folder)) is VICUNA_V1
    with pytest.raises(UserError, match=r"'chatml_direct': <\|im_start\|> and <\|im_end\|> are no tokens of"):
        conversation_of(model(tokenizer_dir), vicuna, "chatml_direct")
