"""A tokenizer's own template, against transformers' rendering and a restatement of the original's label rule."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.chat_template import ChatTemplate, Speech
from rlaifv_jax.data.encode import Encoder
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.schema import Example
from rlaifv_jax.data.square import Square
from rlaifv_jax.data.templates import Turn
from rlaifv_jax.data.tokenizer import load_tokenizer
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.families import OMNILMM
from rlaifv_jax.sampling.prompt import Prompter
from tests.convert.omnilmms import ZEPHYR, write_tokenizer

SQUARE = Square.of(8, 4)
SYSTEM = (
    "<|system|>\nYou are an artificial intelligence assistant, which gives helpful, detailed, and polite answers "
    "to the human's questions.</s>\n"
)
ONE = (Turn("user", "what is on the table ?"),)
THREE = (*ONE, Turn("assistant", "a red car ."), Turn("user", "and left ?"))


ALIKE = (
    "{% for message in messages %}{{ '<|msg|>\n' + message['content'] + eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|msg|>\n' }}{% endif %}"
)


def changed(old: str, new: str) -> str:
    """Zephyr's template, otherwise."""
    assert old in ZEPHYR
    return ZEPHYR.replace(old, new)


def tokenizer_rows(tokenizer: Any) -> int:
    return max(tokenizer.encode_bare(token)[-1] for token in tokenizer.special_tokens) + 1


@pytest.fixture(scope="module", params=[True, False], ids=["legacy", "modern"])
def folder(
    request: pytest.FixtureRequest,
    tokenizer_dir: Path,
    modern_tokenizer_dir: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    plain = tokenizer_dir if request.param else modern_tokenizer_dir
    return write_tokenizer(tmp_path_factory.mktemp("zephyr"), plain)


@pytest.fixture(scope="module")
def template(folder: Path) -> ChatTemplate:
    return ChatTemplate.of(load_tokenizer(folder), OMNILMM.speech, folder)


def test_texts(template: ChatTemplate) -> None:
    picture = "<im_start><im_patch><im_end>\n"
    question = f"<|user|>\n{picture}what is on the table ?</s>\n<|assistant|>\n"
    assert template.render_prompt(ONE, image=True) == SYSTEM + question
    assert template.render(ONE, "a dog .", image=True) == SYSTEM + question + "a dog .</s>"
    later = "a red car .</s>\n<|user|>\nand left ?</s>\n<|assistant|>\n"
    assert template.render_prompt(THREE, image=False) == SYSTEM + question.replace(picture, "") + later
    assert template.headers == ("\n<|user|>\n", "\n<|assistant|>\n")
    assert pickle.loads(pickle.dumps(template)) == template


def test_rendered_as_transformers_does(folder: Path, template: ChatTemplate) -> None:
    theirs = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "system", "content": OMNILMM.speech.system}]
    messages += [{"role": turn.role, "content": turn.text} for turn in THREE]
    assert template.render_prompt(THREE, image=False) == theirs.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )


def masked_by_the_original(ids: list[int], answer: list[int], question: list[int]) -> np.ndarray:
    """bool[n], true for labels: all up to the first answer is masked, then from each question to its answer."""

    def starts(marker: list[int]) -> list[int]:
        return [n for n in range(len(ids)) if ids[n : n + len(marker)] == marker]

    labels = np.ones(len(ids), bool)
    answers = [n + len(answer) for n in starts(answer)]
    labels[: answers[0]] = False
    for begin in starts(question):
        if begin > answers[0]:
            labels[begin : min((n for n in answers if n > begin), default=len(ids))] = False
    return labels


@pytest.mark.parametrize("turns", [ONE, THREE], ids=["one", "three"])
@pytest.mark.parametrize("image", [True, False])
def test_labels_are_the_original_s(folder: Path, template: ChatTemplate, turns: tuple[Turn, ...], image: bool) -> None:
    tokenizer = load_tokenizer(folder)
    text = template.render(turns, "a large dog .", image=image)
    ids = template.tokenize(tokenizer, text)
    behind = len(tokenizer.encode("</s>"))
    answer, question = (tokenizer.encode(f"</s>\n<|{who}|>\n")[behind:] for who in ("assistant", "user"))
    expected = masked_by_the_original(ids, answer, question)
    if tokenizer.legacy:  # then a header alone has the tokens that it has in a text, as the original takes it
        alone = [tokenizer.encode(f"\n<|{who}|>\n")[1:] for who in ("assistant", "user")]
        assert [answer, question] == alone
    labels = np.zeros(len(ids), bool)
    for start, stop in template.answer_spans(tokenizer, text, ids):
        labels[start:stop] = True
    assert labels.tolist() == expected.tolist()
    assert labels[-1]
    assert ids[-1] == tokenizer.eos_id
    assert ids.count(tokenizer.bos_id) == 1
    assert ids[0] == tokenizer.bos_id
    assert ids.count(IMAGE_TOKEN) == image
    encoder = Encoder(tokenizer, template, SQUARE, 2048, "sft")
    encoded = encoder.encode(Example(0, "", b"" if image else None, turns, ("a large dog .",)))
    assert encoded.answers[0].labels.sum() == expected.sum()


def test_a_prompt_is_what_answers_follow(folder: Path, template: ChatTemplate) -> None:
    tokenizer = load_tokenizer(folder)
    encoder = Encoder(tokenizer, template, SQUARE, 2048, "dpo")
    encoded = encoder.encode(Example(0, "", b"", THREE, ("a dog .", "no cat")))
    prompt = template.tokenize(tokenizer, template.render_prompt(THREE, image=True))
    assert encoded.prefix.tolist() == prompt
    assert encoded.prefix_length == len(prompt) + 3
    texts = [tokenizer.decode(answer.tokens.tolist()) for answer in encoded.answers]
    assert [text.strip() for text in texts] == ["a dog .", "no cat"]
    assert all(answer.labels.all() for answer in encoded.answers)


def test_the_image_stands_between_its_tokens(folder: Path, template: ChatTemplate) -> None:
    tokenizer = load_tokenizer(folder)
    ids = template.tokenize(tokenizer, template.render_prompt(ONE, image=True))
    place = ids.index(IMAGE_TOKEN)
    assert tokenizer.decode([ids[place - 1]], skip_special=False) == "<im_start>"
    assert tokenizer.decode([ids[place + 1]], skip_special=False) == "<im_end>"


@pytest.mark.parametrize("text", ["so <|assistant|> said", "a\n<|user|>\nb", "end</s>", "<im_patch>"])
def test_texts_that_would_be_taken_for_the_template(folder: Path, template: ChatTemplate, text: str) -> None:
    encoder = Encoder(load_tokenizer(folder), template, SQUARE, 2048, "dpo")
    with pytest.raises(BadRow, match=r"separator_in_text|special_token_in_text"):
        encoder.encode(Example(0, "", b"", (Turn("user", text),), ("a", "b")))


def test_tokenizers_that_lack_something(tokenizer_dir: Path, tmp_path: Path) -> None:
    for name, options, message in (
        ("template", {"chat": None}, "holds no chat template"),
        ("tokens", {"added": ("<im_start>",)}, "no <im_patch> and no <im_end>, which stand for a picture"),
        ("jinja", {"chat": "{% for"}, "chat template cannot be used"),
        ("mute", {"chat": "hello"}, "chat template cannot be used: it does not write every message as it is"),
        ("upper", {"chat": changed("message['content'] + eos", "message['content']|upper + eos")}, "as it is"),
        ("cut", {"chat": changed("message['content'] + eos", "message['content'][:200] + eos")}, "as it is"),
        ("unsystematic", {"chat": changed("== 'system'", "== 'nobody'")}, "leaves out the system message"),
        ("twice", {"chat": changed("'<|user|>\n' +", "'<|user|>\n<im_patch>' +")}, "as it is, and no more often"),
        ("unprompted", {"chat": changed("{{ '<|assistant|>' }}", "")}, "is waited for does not lead answers"),
        ("bot", {"chat": changed("{{ '<|assistant|>' }}", "{{ '<|bot|>' }}")}, "is waited for does not lead answers"),
        ("alike", {"chat": ALIKE}, "headers of questions and answers are not to be told apart"),
        ("endless", {"chat": ZEPHYR.replace(" + eos_token", " + 'E'")}, "no end token follows an answer"),
    ):
        folder = write_tokenizer(tmp_path / name, tokenizer_dir, **options)
        with pytest.raises(UserError, match=message):
            ChatTemplate.of(load_tokenizer(folder), OMNILMM.speech, folder)


def test_another_system_text(tokenizer_dir: Path, tmp_path: Path) -> None:
    """Where a template has no place for one, there is none: not silently another prompt."""
    turns = (Turn("user", "hi"),)
    tokenizer = load_tokenizer(write_tokenizer(tmp_path / "a", tokenizer_dir))
    template = ChatTemplate.of(tokenizer, OMNILMM.speech, tmp_path)
    text = template.with_system("Be short.").render_prompt(turns, image=True)
    assert text == template.render_prompt(turns, image=True).replace(OMNILMM.speech.system, "Be short.")
    silent = write_tokenizer(tmp_path / "b", tokenizer_dir, chat=changed("== 'system'", "== 'nobody'"))
    template = ChatTemplate.of(load_tokenizer(silent), Speech(), silent)
    assert template.with_system("") == template
    with pytest.raises(BadRow, match="leaves out the system message"):
        template.with_system("Be short.")


@pytest.mark.parametrize("processor", [None, "<s> $A", "$A </s>", "<s> $A </s>"])
@pytest.mark.parametrize("writes_bos", [True, False])
def test_fast_tokenizers_are_read_as_transformers_reads_them(
    tmp_path: Path, processor: str | None, writes_bos: bool
) -> None:
    """Whatever a tokenizer adds by itself, a text of a template gets what the template writes."""
    words = {word: n for n, word in enumerate(["<unk>", "<s>", "</s>", "user", "assistant", "hi", "there", ":"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    if processor:
        special = [("<s>", 1), ("</s>", 2)]
        tokenizer.post_processor = processors.TemplateProcessing(single=processor, special_tokens=special)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    body = "{% for m in messages %}{{ m['role'] + ' : ' + m['content'] + ' ' + eos_token + ' ' }}{% endfor %}"
    body += "{% if add_generation_prompt %}{{ 'assistant :' }}{% endif %}"
    fast.chat_template = {"default": ("{{ bos_token }} " if writes_bos else "") + body, "tool_use": "{{ nothing }}"}
    fast.save_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path)
    template = ChatTemplate.of(ours, Speech(), tmp_path)
    turns = (Turn("user", "hi there"), Turn("assistant", "hi"), Turn("user", "there"))
    theirs = fast.apply_chat_template(
        [{"role": turn.role, "content": turn.text} for turn in turns], add_generation_prompt=True, return_dict=False
    )
    assert template.tokenize(ours, template.render_prompt(turns, image=False)) == theirs


def test_questions_that_hold_tokens_of_pictures(folder: Path) -> None:
    """They are taken out, as the tag is; a place for a picture is where the template puts it, and nowhere else."""
    tokenizer = load_tokenizer(folder)
    template = ChatTemplate.of(tokenizer, OMNILMM.speech, folder)
    prompter = Prompter.__new__(Prompter)
    prompter.tokenizer, prompter.template = tokenizer, template
    prompter.config = SimpleNamespace(decoder=SimpleNamespace(vocab_size=tokenizer_rows(tokenizer)))
    for image in (True, False):
        picture = SQUARE.uniform if image else None
        odd = prompter.encode([Turn("user", "<im_<im_patch>patch> what <image> ?<im_end>")], picture)
        plain = prompter.encode([Turn("user", "what  ?")], picture)
        assert odd.prefix.tolist() == plain.prefix.tolist()
        assert odd.prefix.tolist().count(IMAGE_TOKEN) == image


def test_a_template_that_refuses_a_conversation(tokenizer_dir: Path, tmp_path: Path) -> None:
    strict = ZEPHYR.replace(
        "{% for message in messages %}",
        "{% if messages | length > 4 %}{{ raise_exception('too long') }}{% endif %}{% for message in messages %}",
        1,
    )
    tokenizer = load_tokenizer(write_tokenizer(tmp_path, tokenizer_dir, chat=strict))
    template = ChatTemplate.of(tokenizer, Speech(), tmp_path)
    with pytest.raises(BadRow, match="the chat template refuses it: too long"):
        template.render_prompt((*THREE, *THREE), image=False)
