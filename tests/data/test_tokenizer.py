"""Ids equal SentencePiece driven by hand as the slow LLaMA tokenizer did it, and those of transformers."""

import json
import pickle
import re
import shutil

import pytest
import sentencepiece
from transformers import AutoTokenizer

from rlaifv_jax.data.tokenizer import load_tokenizer
from rlaifv_jax.errors import UserError
from tests.conftest import train_tokenizer

TEXTS = [
    "What is in the picture?",
    "USER: ",
    "\nWhat is the dog doing? ASSISTANT: ",
    " leading blank",
    "  two blanks, and  two inside",
    "trailing blank ",
    "snow ☃ and 汉字 and é",
    "",
    "\n",
    "a\tb",
    "digits 1234567",
]


def pieces(model, text):
    return [model.piece_to_id(piece) for piece in model.encode(text, out_type=str)]


def test_legacy_ids_equal_sentencepiece(tokenizer_dir):
    model = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer_dir / "tokenizer.model"))
    tokenizer = load_tokenizer(tokenizer_dir)
    for text in TEXTS:
        assert tokenizer.encode(text) == [1, *pieces(model, text)]
    # Each stretch between special tokens is a text of its own, with its own dummy blank.
    for left, right in (("A dog.", "USER: what"), ("a", ""), ("", "b"), ("a ", " b")):
        expected = [1, *(pieces(model, left) if left else []), 2, *(pieces(model, right) if right else [])]
        assert tokenizer.encode(f"{left}</s>{right}") == expected


def test_blanks_around_the_image_as_in_llama(tokenizer_dir):
    tokenizer = load_tokenizer(tokenizer_dir)
    model = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer_dir / "tokenizer.model"))
    blank, newline = model.piece_to_id("▁"), model.piece_to_id("<0x0A>")
    assert tokenizer.encode("USER: ")[-1] == blank  # 29871 in LLaMA's vocabulary
    assert tokenizer.encode("\nWhat")[1:3] == [blank, newline]  # 29871 13


def test_modern_ids_equal_sentencepiece(modern_tokenizer_dir):
    """legacy: false, spelt out: one dummy blank at the start of the text, none after a special token."""
    model = sentencepiece.SentencePieceProcessor(model_file=str(modern_tokenizer_dir / "tokenizer.model"))
    tokenizer = load_tokenizer(modern_tokenizer_dir)

    def with_blank(text):  # ids of "▁text": put a word in front and take its ids away again
        return pieces(model, "x" + " " + text)[len(pieces(model, "x")) :]

    for text in TEXTS:
        assert tokenizer.encode(text) == [1, *(with_blank(text) if text else [])]
    assert tokenizer.encode("A dog.</s>USER: a") == [1, *with_blank("A dog."), 2, *pieces(model, "USER: a")]
    assert tokenizer.encode("</s>USER") == [1, 2, *pieces(model, "USER")]


def test_the_two_modes_differ_where_they_should(tokenizer_dir, tmp_path):
    shutil.copytree(tokenizer_dir, tmp_path / "modern")
    settings = json.loads((tmp_path / "modern/tokenizer_config.json").read_text())
    (tmp_path / "modern/tokenizer_config.json").write_text(json.dumps(settings | {"legacy": False}))
    old, new = load_tokenizer(tokenizer_dir), load_tokenizer(tmp_path / "modern")
    assert old.encode("a dog") == new.encode("a dog")
    assert old.encode("dog.</s>USER") != new.encode("dog.</s>USER")
    assert old.fingerprint != new.fingerprint
    del settings["legacy"]
    (tmp_path / "modern/tokenizer_config.json").write_text(json.dumps(settings))
    assert load_tokenizer(tmp_path / "modern").encode("dog.</s>USER") == old.encode("dog.</s>USER")


@pytest.mark.parametrize("legacy", [True, False])
def test_equal_to_transformers_without_leading_blanks(tmp_path, legacy):
    folder = train_tokenizer(tmp_path / "t", legacy=legacy)
    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        if not text.startswith((" ", "\n")) and text:
            assert ours.encode(text) == theirs(text).input_ids, text


def test_added_tokens_are_kept_whole(tokenizer_dir, tmp_path):
    shutil.copytree(tokenizer_dir, tmp_path / "t")
    (tmp_path / "t/added_tokens.json").write_text(json.dumps({"<pad>": 641, "<image>": 640}))
    plain, tokenizer = load_tokenizer(tokenizer_dir), load_tokenizer(tmp_path / "t")
    assert (plain.vocab_size, tokenizer.vocab_size) == (640, 642)
    assert tokenizer.encode("dog<image>cat") == [*plain.encode("dog"), 640, *plain.encode("cat")[1:]]
    assert "<image>" in tokenizer.special_tokens
    settings = json.loads((tmp_path / "t/tokenizer_config.json").read_text())
    settings["added_tokens_decoder"] = {"642": {"content": "<x>", "lstrip": True, "rstrip": True}}
    (tmp_path / "t/tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = load_tokenizer(tmp_path / "t")
    assert tokenizer.encode("dog <x> cat") == [*plain.encode("dog"), 642, *plain.encode("cat")[1:]]


def test_decode_is_the_inverse(tokenizer_dir, modern_tokenizer_dir):
    for folder in (tokenizer_dir, modern_tokenizer_dir):
        tokenizer = load_tokenizer(folder)
        for text in TEXTS:
            assert tokenizer.decode(tokenizer.encode(text)) == text
        ids = [*tokenizer.encode("A dog."), tokenizer.eos_id]
        assert tokenizer.decode(ids) == "A dog."
        assert tokenizer.decode(ids, skip_special=False).endswith("A dog.</s>")


def test_ids_of_special_tokens_and_pickling(tokenizer_dir):
    tokenizer = load_tokenizer(tokenizer_dir)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1, 2, 0)
    again = pickle.loads(pickle.dumps(tokenizer))
    assert len(pickle.dumps(tokenizer)) < 1000
    assert again.fingerprint == tokenizer.fingerprint
    assert again.encode("a dog</s>") == tokenizer.encode("a dog</s>")


def test_fast_tokenizer_where_there_is_no_sentencepiece_model(tokenizer_dir, tmp_path):
    AutoTokenizer.from_pretrained(tokenizer_dir).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.model").unlink(missing_ok=True)
    fast, slow = load_tokenizer(tmp_path), load_tokenizer(tokenizer_dir)
    assert fast.encode("a dog in the tree") == slow.encode("a dog in the tree")
    assert (fast.bos_id, fast.eos_id, fast.pad_id) == (1, 2, 0)
    assert fast.decode(fast.encode("a dog")) == "a dog"


def test_errors_say_which_files_are_missing(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer\.model.*tokenizer\.json"):
        load_tokenizer(tmp_path)
    with pytest.raises(UserError, match="not a directory"):
        load_tokenizer(tmp_path / "nowhere")
    (tmp_path / "tokenizer.model").write_bytes(b"this is no model")
    with pytest.raises(UserError, match="not a SentencePiece model"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("file", "values", "where"),
    [
        *(
            ("tokenizer_config.json", {"added_tokens_decoder": value}, "added_tokens_decoder")
            for value in ([1], "x", {"640": "x"}, {"a": {"content": "x"}}, {"-3": {"content": "x"}}, {"640": {}})
        ),
        ("tokenizer_config.json", {"added_tokens_decoder": {"640": {"content": ""}}}, "added_tokens_decoder.640"),
        *(("added_tokens.json", {"<x>": value}, "added_tokens.json: '<x>'") for value in ("a", None, 1.5, True, -1)),
        *(("tokenizer_config.json", {"eos_token": value}, "eos_token is") for value in (["</s>"], 5, {"content": 5})),
        ("special_tokens_map.json", {"eos_token": {"content": 5}}, "special_tokens_map.json: eos_token is"),
        *(("tokenizer_config.json", {key: "<end>"}, f"'<end>' as its {key}") for key in ("eos_token", "unk_token")),
        ("tokenizer_config.json", {"bos_token": "<start>"}, "'<start>' as its bos_token"),
        *(
            ("tokenizer_config.json", {"chat_template": value}, "chat_template is")
            for value in ([{"name": "x"}], ["a"], 5, {"default": 4}, [{"name": "default", "template": 4}])
        ),
    ],
)
def test_values_that_cannot_be(tokenizer_dir, tmp_path, file, values, where):
    folder = shutil.copytree(tokenizer_dir, tmp_path / "t")
    old = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps(old | values))
    with pytest.raises(UserError, match=re.escape(where)) as raised:
        load_tokenizer(folder)
    assert str(folder) in str(raised.value)


def test_what_may_be_left_open(tokenizer_dir, tmp_path):
    """No table of added tokens, a pad token in no table, a BOS that is not used, templates by name."""
    folder = shutil.copytree(tokenizer_dir, tmp_path / "t")
    file = folder / "tokenizer_config.json"
    chats = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "y"}]
    changes = {"added_tokens_decoder": None, "pad_token": "[PAD]", "chat_template": chats}
    changes |= {"bos_token": "<start>", "add_bos_token": False}
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    tokenizer = load_tokenizer(folder)
    assert (tokenizer.eos_id, tokenizer.bos_id, tokenizer.chat_template) == (2, None, "y")


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.jinja", "added_tokens.json"])
def test_files_that_are_no_text(tokenizer_dir, tmp_path, name):
    folder = shutil.copytree(tokenizer_dir, tmp_path / "t")
    (folder / name).write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=name):
        load_tokenizer(folder)
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(UserError, match=name):
        load_tokenizer(folder)


def test_an_end_token_that_tokenizer_json_does_not_hold(tokenizer_dir, tmp_path):
    AutoTokenizer.from_pretrained(tokenizer_dir).save_pretrained(tmp_path)
    (tmp_path / "tokenizer.model").unlink(missing_ok=True)
    file = tmp_path / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps(settings | {"eos_token": "<end>"}))
    with pytest.raises(UserError, match="'<end>' as its eos_token, which has an id in none of its files"):
        load_tokenizer(tmp_path)
    file.write_text(json.dumps(settings | {"chat_template": 5}))
    with pytest.raises(UserError, match="chat_template is 5"):
        load_tokenizer(tmp_path)
