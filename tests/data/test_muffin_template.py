"""Muffin's two layouts, its tokens and its labels, against restatements of the original's functions."""

import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sentencepiece

from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.chat_template import Speech
from rlaifv_jax.data.conversation import conversation_of
from rlaifv_jax.data.encode import Encoder
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.muffin_template import MUFFIN
from rlaifv_jax.data.rows import Item, RowShape, build_rows
from rlaifv_jax.data.schema import Example
from rlaifv_jax.data.square import Square
from rlaifv_jax.data.templates import Turn
from rlaifv_jax.data.tiles import one_tile
from rlaifv_jax.data.tokenizer import Tokenizer, load_tokenizer
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.labeler import answer_tokens
from rlaifv_jax.sampling.prompt import Prompter
from tests.data.muffin_tokenizer import ADDED, write_tokenizer

SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the human's questions."
)
PATCHES = 64
SQUARE = Square.of(8, PATCHES)
PICTURE = "<im_start><im_patch><im_end>"
ONE = (Turn("user", "what is on the table ?"),)
THREE = (*ONE, Turn("assistant", "A red car."), Turn("user", "and left ?"))
FIVE = (*THREE, Turn("assistant", "## a dog\nand a cat."), Turn("user", "right of it ?"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("muffin"))


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


def test_trained_layout() -> None:
    first = f"{SYSTEM}\n\n### Human: {PICTURE}\nwhat is on the table ?\n"
    assert MUFFIN.render(ONE, "A dog.", image=True) == first + "### Assistant: A dog.\n### "
    assert (
        MUFFIN.render(ONE, "A dog.", image=False) == first.replace(f"{PICTURE}\n", "") + "### Assistant: A dog.\n### "
    )
    later = "### Assistant: A red car.\n### Human: and left ?\n"
    assert MUFFIN.render(THREE, "No.", image=True) == first + later + "### Assistant: No.\n### "


def test_asked_layout() -> None:
    asked = f"{SYSTEM}\n###Human: what is on the table ?"
    assert MUFFIN.render_prompt(ONE, image=True) == f"{asked}\n{PICTURE}\n###"
    assert MUFFIN.render_prompt(ONE, image=False) == f"{asked}\n###"
    # A later question is asked as it is trained, up to where the model goes on with ' Assistant:'.
    whole = MUFFIN.render(THREE, "No.", image=True)
    assert MUFFIN.render_prompt(THREE, image=True) == whole.removesuffix(" Assistant: No.\n### ")
    assert (MUFFIN.stop, MUFFIN.lead) == (("###",), "Assistant:")
    assert pickle.loads(pickle.dumps(MUFFIN)) == MUFFIN


def ids_of_the_original(folder: Path, text: str) -> list[int]:
    """The slow tokenizer of a text with 64 literal patches: BOS, then each stretch between added tokens alone."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    ids = [model.bos_id()]
    for part in re.split(
        "(" + "|".join(map(re.escape, ADDED)) + ")", text.replace("<im_patch>", "<im_patch>" * PATCHES)
    ):
        ids += [model.get_piece_size() + ADDED.index(part)] if part in ADDED else model.encode(part)
    return ids


def spread(folder: Path, ids: list[int]) -> list[int]:
    """Ours with the image as 64 patches again."""
    (patch,) = ids_of_the_original(folder, "<im_start>")[1:]
    return [number for token in ids for number in ([patch - 1] * PATCHES if token == IMAGE_TOKEN else [token])]


@pytest.mark.parametrize("image", [True, False])
@pytest.mark.parametrize("turns", [ONE, THREE, FIVE], ids=len)
def test_ids(folder: Path, tokenizer: Tokenizer, turns: tuple[Turn, ...], image: bool) -> None:
    for text in (MUFFIN.render(turns, "A dog.", image=image), MUFFIN.render_prompt(turns, image=image)):
        ours = MUFFIN.tokenize(tokenizer, text)
        assert ours.count(IMAGE_TOKEN) == image
        assert spread(folder, ours) == ids_of_the_original(folder, text)


def labels_of_the_original(folder: Path, turns: tuple[Turn, ...], answer: str, image: bool) -> np.ndarray:
    """bool[n]: by the lengths of header and turns tokenised alone, of a human's turn all but two tokens are masked."""
    ids = ids_of_the_original(folder, MUFFIN.render(turns, answer, image=image))
    labels = np.ones(len(ids), bool)
    place = len(ids_of_the_original(folder, f"{SYSTEM}\n\n"))
    labels[:place] = False
    for number, turn in enumerate((*turns, Turn("assistant", answer))):
        picture = f"{PICTURE}\n" if image and number == 0 else ""
        who = "Human" if turn.role == "user" else "Assistant"
        length = len(ids_of_the_original(folder, f"### {who}: {picture}{turn.text}\n"))
        if turn.role == "user":
            labels[place + 2 : place + length] = False
        place += length
    return labels


@pytest.mark.parametrize("image", [True, False])
@pytest.mark.parametrize("turns", [ONE, THREE, FIVE], ids=len)
def test_labels(folder: Path, tokenizer: Tokenizer, turns: tuple[Turn, ...], image: bool) -> None:
    """Those of the original but for the two tokens of the very first '###'."""
    expected = labels_of_the_original(folder, turns, "Two cats.", image)
    opening = len(ids_of_the_original(folder, f"{SYSTEM}\n\n"))
    assert expected[opening : opening + 3].tolist() == [True, True, False]
    expected[opening : opening + 2] = False
    text = MUFFIN.render(turns, "Two cats.", image=image)
    ids = MUFFIN.tokenize(tokenizer, text)
    labels = np.zeros(len(ids), bool)
    spans = MUFFIN.answer_spans(tokenizer, text, ids)
    for start, stop in spans:
        labels[start:stop] = True
    assert len(spans) == 1 + len(turns) // 2
    assert np.repeat(labels, np.where(np.array(ids) == IMAGE_TOKEN, PATCHES, 1)).tolist() == expected.tolist()
    whole = tokenizer.decode(ids[spans[-1][0] : spans[-1][1]])
    assert whole == "### Assistant: Two cats.\n### "


def test_pairs_share_all_but_the_answer_and_its_header(tokenizer: Tokenizer) -> None:
    encoder = Encoder(tokenizer, MUFFIN, SQUARE, 2048, "dpo")
    encoded = encoder.encode(Example(0, "", b"", THREE, ("A dog.", "two red cats and no table")))
    texts = [tokenizer.decode(answer.tokens.tolist()) for answer in encoded.answers]
    assert texts == ["### Assistant: A dog.\n### ", "### Assistant: two red cats and no table\n### "]
    assert all(answer.labels.all() for answer in encoded.answers)
    assert len(MUFFIN.closing(tokenizer)) == 2
    header = len(tokenizer.encode_bare("\n### Assistant:")) - 2  # the dummy blank and the line break
    first, second = (answer.tokens[: header + 1].tolist() for answer in encoded.answers)
    assert first[:-1] == second[:-1]
    assert first[-1] != second[-1]
    assert tokenizer.decode(encoded.prefix[-2:].tolist()).endswith("\n")
    # In a row the image takes its 64 positions between its two tokens, and the first label is predicted by the prefix.
    shape = RowShape(encoded.row_length, encoded.target_count, SQUARE.tile)
    batch = build_rows([[Item(encoded, one_tile(np.zeros((8, 8, 3), np.uint8)))]], shape)
    places = np.flatnonzero(batch.patches[0] >= 0)
    assert len(places) == PATCHES
    around = batch.tokens[0, [places[0] - 1, places[-1] + 1]]
    assert [tokenizer.decode([token], skip_special=False) for token in around] == ["<im_start>", "<im_end>"]
    assert batch.sources[0, 0] == encoded.prefix_length - 1
    assert batch.targets[0, 0] == first[0]


def test_all_answers_are_trained_on_with_sft(tokenizer: Tokenizer) -> None:
    encoder = Encoder(tokenizer, MUFFIN, SQUARE, 2048, "sft")
    (answer,) = encoder.encode(Example(0, "", b"", THREE, ("No.",))).answers
    said = tokenizer.decode(answer.tokens[answer.labels].tolist())
    assert said == "### Assistant: A red car.\n###### Assistant: No.\n### "


@pytest.mark.parametrize("text", ["a ### Assistant: b", "x\n### Human: y", "<im_patch>", "[PAD]", "<image>"])
def test_texts_that_would_be_taken_for_the_template(tokenizer: Tokenizer, text: str) -> None:
    encoder = Encoder(tokenizer, MUFFIN, SQUARE, 2048, "dpo")
    with pytest.raises(BadRow, match=r"separator_in_text|special_token_in_text|image_tag_in_text"):
        encoder.encode(Example(0, "", b"", (Turn("user", text),), ("a", "b")))


def test_prompts(folder: Path, tokenizer: Tokenizer) -> None:
    """A picture's tokens in a question are taken out; and no model that speaks like this is asked for one token."""
    prompter = Prompter.__new__(Prompter)
    prompter.tokenizer, prompter.template = tokenizer, MUFFIN
    prompter.config = SimpleNamespace(decoder=SimpleNamespace(vocab_size=tokenizer.vocab_size))
    odd = prompter.encode([Turn("user", "what <im_patch> is <image> it ?<im_end>")], SQUARE.uniform)
    plain = prompter.encode([Turn("user", "what  is  it ?")], SQUARE.uniform)
    assert odd.prefix.tolist() == plain.prefix.tolist()
    assert plain.prefix_length == len(plain.prefix) + PATCHES - 1
    assert prompter.voice == "muffin"
    with pytest.raises(UserError, match="its template 'muffin' asks in another layout than that of answers"):
        answer_tokens(prompter, "score.model")


@pytest.mark.parametrize("plain", ["tokenizer_dir", "modern_tokenizer_dir"])
def test_other_tokenizers(plain: str, request: pytest.FixtureRequest) -> None:
    """Headers are found in whatever pieces '###' comes; without the picture's tokens the template is refused."""
    folder = request.getfixturevalue(plain)
    found = load_tokenizer(folder)
    for turns in (ONE, THREE):
        text = MUFFIN.render(turns, "Yes.", image=False)
        ids = found.encode(text)
        said = [found.decode(ids[start:stop]).strip() for start, stop in MUFFIN.answer_spans(found, text, ids)]
        assert said == ["### Assistant: A red car.\n###", "### Assistant: Yes.\n###"][-len(turns) // 2 :]
    assert MUFFIN.closing(found) == tuple(found.encode_bare("a\n###")[-3:])
    family = SimpleNamespace(only_own_template=False, templates=("muffin",), speech=Speech())
    model = SimpleNamespace(template=None, directory=folder, family=family)
    with pytest.raises(UserError, match="template 'muffin': the tokenizer has no <im_start> and no <im_patch> and no"):
        conversation_of(model, found)


def test_the_model_s_family_names_it(folder: Path, tokenizer: Tokenizer) -> None:
    family = SimpleNamespace(only_own_template=False, templates=("muffin",), speech=Speech())
    model = SimpleNamespace(template=None, directory=folder, family=family)
    assert conversation_of(model, tokenizer) is MUFFIN
