"""MiniCPM-V's conversations: Llama-3's headers from the tokenizer's own template, and a picture with its slices."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import AutoTokenizer

from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.chat_template import ChatTemplate
from rlaifv_jax.data.templates import Turn
from rlaifv_jax.data.tokenizer import Tokenizer, load_tokenizer
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.labeler import answer_tokens
from rlaifv_jax.models.families import MINICPM
from rlaifv_jax.sampling.prompt import Prompter
from tests.convert.llamas import ALWAYS, CHAT
from tests.convert.minicpms import ADDED, write_tokenizer

ONE = (Turn("user", "what is on the table ?"),)
THREE = (*ONE, Turn("assistant", "a red car ."), Turn("user", "and left ?"))
PICTURE = "<image><unk></image>"
KINDS = {"asked": CHAT, "always": ALWAYS}


def header(role: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n"


@pytest.fixture(scope="module", params=KINDS.values(), ids=KINDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("minicpm")
    write_tokenizer(path, request.param)
    return path


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def template(folder: Path, tokenizer: Tokenizer) -> ChatTemplate:
    return ChatTemplate.of(tokenizer, MINICPM.speech, folder)


@pytest.mark.parametrize(
    ("slices", "picture"),
    [
        ((0, 0), PICTURE),
        ((1, 2), f"{PICTURE}<slice>{PICTURE}\n{PICTURE}</slice>"),
        ((3, 2), f"{PICTURE}<slice>{PICTURE * 3}\n{PICTURE * 3}</slice>"),
    ],
)
def test_texts(template: ChatTemplate, slices: tuple[int, int], picture: str) -> None:
    asked = f"<|begin_of_text|>{header('user')}{picture}\nwhat is on the table ?<|eot_id|>{header('assistant')}"
    assert template.render_prompt(ONE, image=True, slices=slices) == asked
    assert template.render(ONE, "a dog .", image=True, slices=slices) == asked + "a dog .<|eot_id|>"
    later = f"a red car .<|eot_id|>{header('user')}and left ?<|eot_id|>{header('assistant')}"
    assert template.render_prompt(THREE, image=True, slices=slices) == asked + later
    assert template.render(THREE, " it is. \n", image=True, slices=slices) == f"{asked}{later}it is.<|eot_id|>"
    assert picture not in template.render_prompt(THREE, image=False)


def test_rendered_as_transformers_does(folder: Path, template: ChatTemplate) -> None:
    """As the model's own code asks: its line of the picture holds as many tokens as there are queries."""
    theirs = AutoTokenizer.from_pretrained(folder)
    picture = "<image>" + "<unk>" * 96 + "</image>"
    content = f"{picture}<slice>{picture}{picture}</slice>\nwhat is on the table ?"
    ours = template.render_prompt(ONE, image=True, slices=(2, 1)).replace("<unk>", "<unk>" * 96)
    assert ours == theirs.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )


def test_tokens(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    text = template.render(THREE, "a dog .", image=True, slices=(2, 2))
    ids = template.tokenize(tokenizer, text)
    assert ids.count(IMAGE_TOKEN) == 5
    assert ids[0] == tokenizer.bos_id
    assert ids.count(tokenizer.bos_id) == 1
    begin, end = (tokenizer.encode_bare(tag)[0] for tag in ("<image>", "</image>"))
    for place in (n for n, token in enumerate(ids) if token == IMAGE_TOKEN):
        assert (ids[place - 1], ids[place + 1]) == (begin, end)
    said = [tokenizer.decode(ids[start:stop], False) for start, stop in template.answer_spans(tokenizer, text, ids)]
    assert said == ["a red car .<|eot_id|>", "a dog .<|eot_id|>"]


def test_words_of_a_labeler(template: ChatTemplate, tokenizer: Tokenizer) -> None:
    """Those that the original finds behind BOS."""
    prompter = Prompter.__new__(Prompter)
    prompter.tokenizer, prompter.template = tokenizer, template
    prompter.config = SimpleNamespace(decoder=SimpleNamespace(vocab_size=1000))
    expected = tuple(tokenizer.encode(word)[-1] for word in ("yes", "Yes", "no", "No"))
    assert answer_tokens(prompter, "score.model").ids == expected


@pytest.mark.parametrize("gone", ["<image>", "</slice>"])
def test_tokens_that_a_tokenizer_lacks(tmp_path: Path, gone: str) -> None:
    write_tokenizer(tmp_path, CHAT, tuple(token for token in ADDED if token != gone))
    with pytest.raises(UserError, match=f"the tokenizer has no {re.escape(gone)}, which stand for a picture"):
        ChatTemplate.of(load_tokenizer(tmp_path), MINICPM.speech, tmp_path)
