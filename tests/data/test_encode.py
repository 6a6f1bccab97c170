"""Tokens and labels equal the original's mechanics, written out once more in plain lists."""

import pickle
from itertools import pairwise

import numpy as np
import pytest

from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.encode import Encoder
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.schema import Example
from rlaifv_jax.data.square import Square
from rlaifv_jax.data.templates import TEMPLATES, Turn
from rlaifv_jax.data.tokenizer import load_tokenizer

PATCHES = 16
SQUARE = Square.of(8, PATCHES)
QUESTION = "What is in the picture?"
CHATS = [
    (Turn("user", QUESTION),),
    (Turn("user", "How many?"), Turn("assistant", "There are 12."), Turn("user", "Which?")),
    (
        Turn("user", "a"),
        Turn("assistant", "b c"),
        Turn("user", "d\ne"),
        Turn("assistant", "F!"),
        Turn("user", "  g "),
    ),
]
ANSWERS = ["A dog.", " a leading blank", "two\nlines\n", "é☃ 汉字", "A dog. " * 30, "x"]


def original_ids_and_labels(text, tokenizer, has_image):
    """`preprocess_v1` with lists: (ids, labels with -100), or None where the original masks everything."""

    def tokenize(piece):
        if not has_image:
            return tokenizer.encode(piece)
        chunks = [tokenizer.encode(chunk) for chunk in piece.split("<image>")]
        ids = [chunks[0][0]]
        for number, chunk in enumerate(chunks):
            ids += ([-200] if number else []) + chunk[1:]
        return ids

    ids = tokenize(text)
    labels = list(ids)
    total = len([i for i in ids if i != 0])
    labels[0] = -100
    done = 1
    for number, part in enumerate(text.split("</s>")):
        if part == "":
            break
        halves = part.split(" ASSISTANT: ")
        if len(halves) != 2:
            break
        round_length = len(tokenize(part))
        instruction = len(tokenize(halves[0] + " ASSISTANT: ")) - 2
        if number != 0 and not tokenizer.legacy:
            round_length -= 1
            instruction -= 1
        for place in range(done, min(done + instruction, len(labels))):
            labels[place] = -100
        done += round_length
    labels[done:] = [-100] * len(labels[done:])
    return (ids, labels) if done == total and any(label != -100 for label in labels) else None


def encoder(folder, objective="dpo", max_length=4096, template="llava_v1"):
    return Encoder(load_tokenizer(folder), TEMPLATES[template], SQUARE, max_length, objective)


def example(turns=CHATS[0], answers=("A dog.", "A cat."), image=b"x"):
    return Example(0, "0", image, tuple(turns), tuple(answers))


@pytest.fixture(params=["legacy", "modern"])
def folder(request, tokenizer_dir, modern_tokenizer_dir):
    return tokenizer_dir if request.param == "legacy" else modern_tokenizer_dir


@pytest.mark.parametrize("image", [b"x", None])
@pytest.mark.parametrize("turns", CHATS)
@pytest.mark.parametrize("template", ["llava_v1", "vicuna_v1"])
def test_sft_labels_every_answer_as_the_original(folder, turns, image, template):
    ours = encoder(folder, "sft", template=template)
    for answer in ANSWERS:
        encoded = ours.encode(example(turns, (answer,), image))
        text = TEMPLATES[template].render(turns, answer, image=image is not None)
        ids, labels = original_ids_and_labels(text, ours.tokenizer, image is not None)
        branch = encoded.answers[0]
        assert [*encoded.prefix, *branch.tokens] == ids
        mine = np.where(branch.labels, branch.tokens, -100)
        assert [-100] * len(encoded.prefix) + mine.tolist() == labels
        assert branch.labels[0]
        assert encoded.target_count == sum(label != -100 for label in labels)
        said = [turn.text for turn in turns if turn.role == "assistant"] + [answer]
        assert branch.labels.sum() >= 2 * len(said)  # something and an end token for every answer


@pytest.mark.parametrize("turns", CHATS)
def test_dpo_labels_the_last_answer_only(folder, turns):
    ours = encoder(folder)
    for chosen, rejected in pairwise(ANSWERS):
        encoded = ours.encode(example(turns, (chosen, rejected)))
        for answer, branch in zip((chosen, rejected), encoded.answers, strict=True):
            text = TEMPLATES["llava_v1"].render(turns, answer, image=True)
            ids, labels = original_ids_and_labels(text, ours.tokenizer, True)
            assert [*encoded.prefix, *branch.tokens] == ids
            assert branch.labels.all()
            # The last run of labels, and nothing before it.
            masked = [place for place, label in enumerate(labels) if label == -100]
            assert len(encoded.prefix) == masked[-1] + 1
        assert not any(encoded.truncated)


def test_worked_example(tokenizer_dir):
    """One turn: everything up to `ASSISTANT:` is prefix, `▁A ▁dog . </s>` is the answer."""
    ours = encoder(tokenizer_dir)
    encoded = ours.encode(example())
    tokenizer = ours.tokenizer
    assert encoded.answers[0].tokens.tolist() == [*tokenizer.encode("A dog.")[1:], 2]
    head, tail = TEMPLATES["llava_v1"].render(CHATS[0], "", image=True).split("<image>")
    tail = tail.removesuffix(" </s>")
    assert encoded.prefix.tolist() == [*tokenizer.encode(head), IMAGE_TOKEN, *tokenizer.encode(tail)[1:]]
    assert tokenizer.decode(encoded.prefix[-1:]) == ":"
    assert encoded.prefix.dtype == np.int32
    assert encoded.prefix_length == len(encoded.prefix) + PATCHES - 1
    assert encoded.row_length == encoded.prefix_length + sum(len(a.tokens) for a in encoded.answers)


def test_truncation_equals_cutting_the_expanded_list(tokenizer_dir):
    answers = ("A dog. " * 10, "no")
    whole = encoder(tokenizer_dir).encode(example(answers=answers))
    lists = []
    for branch in whole.answers:  # what the original cuts: ids and labels with the image spread out
        expanded = []
        for token in whole.prefix.tolist():
            expanded += [("image", False)] * PATCHES if token == IMAGE_TOKEN else [(token, False)]
        lists.append(expanded + list(zip(branch.tokens.tolist(), branch.labels.tolist(), strict=True)))
    for limit in range(whole.prefix_length + 1, len(lists[0]) + 2):
        cut = encoder(tokenizer_dir, max_length=limit).encode(example(answers=answers))
        for full, branch, truncated in zip(lists, cut.answers, cut.truncated, strict=True):
            kept = full[:limit]
            mine = list(zip(branch.tokens.tolist(), branch.labels.tolist(), strict=True))
            assert mine == kept[whole.prefix_length :]
            assert truncated == (len(kept) < len(full))
    for limit in (1, whole.prefix_length - 1, whole.prefix_length):
        with pytest.raises(BadRow, match="answer_truncated_away"):
            encoder(tokenizer_dir, max_length=limit).encode(example(answers=answers))


def test_sft_answer_of_which_only_a_question_is_left(tokenizer_dir):
    """A cut inside the first answer leaves labels; the later turns just go."""
    full = encoder(tokenizer_dir, "sft").encode(example(CHATS[1], ("yes",)))
    limit = full.prefix_length + 1
    cut = encoder(tokenizer_dir, "sft", max_length=limit).encode(example(CHATS[1], ("yes",)))
    assert cut.answers[0].tokens.tolist() == full.answers[0].tokens[:1].tolist()
    assert cut.truncated == (True,)


@pytest.mark.parametrize(
    ("turns", "answers", "image", "reason"),
    [
        ((Turn("user", QUESTION),), ("A dog.", ""), b"x", "empty_answer"),
        ((Turn("user", QUESTION),), (" \n", "A dog."), b"x", "empty_answer"),
        (
            (Turn("user", QUESTION), Turn("assistant", ""), Turn("user", "b")),
            ("a", "b"),
            b"x",
            "empty_answer",
        ),
        ((Turn("user", " "),), ("a", "b"), None, "empty_question"),
        ((Turn("user", "<image>\nWhat?"),), ("a", "b"), b"x", "image_tag_in_text"),
        ((Turn("user", "What?"),), ("a", "the <image> b"), b"x", "image_tag_in_text"),
        ((Turn("user", "What</s>?"),), ("a", "b"), b"x", "special_token_in_text"),
        ((Turn("user", "What?"),), ("a</s>", "b"), b"x", "special_token_in_text"),
        ((Turn("user", "What?"),), ("a", "<unk> b"), b"x", "special_token_in_text"),
        ((Turn("user", "What?"),), ("a", "b <s>"), None, "special_token_in_text"),
        ((Turn("user", "What?"),), ("a ASSISTANT: c", "b"), b"x", "separator_in_text"),
        ((Turn("user", "Q ASSISTANT: c"),), ("a", "b"), b"x", "separator_in_text"),
        ((Turn("user", "Q ASSISTANT:"),), ("a", "b"), b"x", "separator_in_text"),
    ],
)
def test_bad_rows(tokenizer_dir, turns, answers, image, reason):
    with pytest.raises(BadRow) as caught:
        encoder(tokenizer_dir).encode(example(turns, answers, image))
    assert caught.value.reason == reason
    assert caught.value.detail


def test_an_answer_may_begin_like_a_header(tokenizer_dir):
    """The original handles this one, so it stays."""
    ours = encoder(tokenizer_dir)
    encoded = ours.encode(example(answers=("ASSISTANT: a", "b")))
    text = TEMPLATES["llava_v1"].render(CHATS[0], "ASSISTANT: a", image=True)
    ids, labels = original_ids_and_labels(text, ours.tokenizer, True)
    assert [*encoded.prefix, *encoded.answers[0].tokens] == ids
    assert encoded.answers[0].tokens.tolist() == [label for label in labels if label != -100]


def test_equal_answers_are_allowed(tokenizer_dir):
    encoded = encoder(tokenizer_dir).encode(example(answers=("A dog.", "A dog.")))
    np.testing.assert_array_equal(encoded.answers[0].tokens, encoded.answers[1].tokens)


class Stumbling:
    """A tokenizer with an ordinary one's manners, apart from what a test changes."""

    def __init__(self, tokenizer, **changes):
        self._tokenizer = tokenizer
        self.__dict__.update(changes)

    def __getattr__(self, name):
        return getattr(self._tokenizer, name)


def test_unknown_tokens_are_a_mismatch_as_in_the_original(tokenizer_dir):
    """Byte fallback leaves no unknown token, so one is declared: the original takes it for padding."""
    plain = load_tokenizer(tokenizer_dir)
    digit = plain.encode("7")[-1]
    ours = Encoder(Stumbling(plain, pad_id=digit), TEMPLATES["llava_v1"], SQUARE, 4096, "dpo")
    assert ours.encode(example(answers=("six", "five"))).target_count
    with pytest.raises(BadRow, match="label_mismatch"):
        ours.encode(example(answers=("7", "6")))


def test_later_rounds_that_do_not_add_up_are_a_mismatch(modern_tokenizer_dir):
    """A legacy flag that does not fit the vocabulary moves the count by one a round."""
    plain = load_tokenizer(modern_tokenizer_dir)
    ours = Encoder(Stumbling(plain, legacy=True), TEMPLATES["llava_v1"], SQUARE, 4096, "sft")
    with pytest.raises(BadRow, match="label_mismatch"):
        ours.encode(example(CHATS[1], ("yes",)))
    text = TEMPLATES["llava_v1"].render(CHATS[1], "yes", image=True)
    assert original_ids_and_labels(text, ours.tokenizer, True) is None


def test_prompts_that_tokenise_differently_are_refused(tokenizer_dir):
    plain = load_tokenizer(tokenizer_dir)

    def encode(text):
        return [1, 9, *plain.encode(text)[1:]] if "cat" in text else plain.encode(text)

    ours = Encoder(Stumbling(plain, encode=encode), TEMPLATES["llava_v1"], SQUARE, 4096, "dpo")
    with pytest.raises(BadRow, match="prefix_mismatch"):
        ours.encode(example(answers=("A dog.", "A cat.")))


def test_pickles_and_has_a_fingerprint_of_its_settings(tokenizer_dir):
    ours = encoder(tokenizer_dir)
    again = pickle.loads(pickle.dumps(ours))
    np.testing.assert_array_equal(again.encode(example()).prefix, ours.encode(example()).prefix)
    assert again.fingerprint == ours.fingerprint
    others = [
        encoder(tokenizer_dir, "sft"),
        encoder(tokenizer_dir, max_length=99),
        encoder(tokenizer_dir, template="vicuna_v1"),
    ]
    assert len({ours.fingerprint, *(other.fingerprint for other in others)}) == 4
