"""Tokens to mentions: the original's results for given tokens, tags and lemmas, and what the fixed functions mend."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.objects import match, vocabulary
from eval.objects.match import Token

WORDS = vocabulary.load()


def tokens(text: str, lemmas: str = "", tags: str = "") -> list[Token]:
    """All nouns and their own lemmas, unless said otherwise."""
    words = text.split()
    lemmas_, tags_ = lemmas.split() or words, tags.split() or ["NN"] * len(words)
    return [Token(*parts) for parts in zip(words, lemmas_, tags_, strict=True)]


def phrase(text: str, lemmas: str = "", tags: str = "") -> list[Token]:
    return [Token("a", "a", "DT"), *tokens(text, lemmas, tags)]


def compat(*phrases: Sequence[Token]) -> list[tuple[str, str]]:
    return [(one.surface, one.canonical) for one in match.PHRASES["compat"](phrases, WORDS)]


def fixed(*phrases: Sequence[Token]) -> list[tuple[str, str]]:
    return [(one.surface, one.canonical) for one in match.PHRASES["fixed"](phrases, WORDS)]


BOTH = pytest.mark.parametrize("found", [compat, fixed])


@BOTH
def test_a_word_counts_once_and_two_words_of_a_class_twice(found):
    dogs = phrase("dogs", "dog", "NNS")
    assert found(phrase("dog"), dogs, phrase("puppy"), phrase("dog")) == [("dog", "dog"), ("puppy", "dog")]


@BOTH
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hot dog", [("hot dog", "hot dog")]),
        ("baby elephant", [("elephant", "elephant")]),
        ("adult cow", [("cow", "cow")]),
        ("passenger train", [("train", "train")]),
        ("passenger jet", [("jet", "airplane")]),
        ("bow tie", [("tie", "tie")]),
        ("toilet seat", [("toilet", "toilet")]),
        ("home plate", []),
        ("train track", []),  # swallows the train
        ("baby cub", []),  # a cub, which is no class
        ("stove top oven", [("stove top oven", "oven")]),
        ("tree", []),
    ],
)
def test_joined_words(found, text, expected):
    assert found(phrase(text)) == expected


@BOTH
def test_a_seat_beside_a_toilet_is_none_and_alone_a_chair(found):
    assert found(phrase("seat")) == [("seat", "chair")]
    assert found(phrase("seat"), phrase("toilet"), phrase("cat")) == [("toilet", "toilet"), ("cat", "cat")]


@BOTH
def test_other_words_break_a_run_of_nouns(found):
    riding = phrase("man riding horse", "man ride horse", "NN VBG NN")
    assert found(riding) == [("man", "person"), ("horse", "horse")]


@pytest.mark.parametrize(
    ("tokens", "published", "mended"),
    [
        (phrase("hot dog and fork", "", "JJ NN CC NN"), ["hot dog"], ["hot dog", "fork"]),
        (phrase("water bottle"), [], ["bottle"]),
        (phrase("kitchen table"), [], ["table"]),
        (phrase("police officer"), [], ["officer"]),
        (phrase("dog food"), [], []),
        (phrase("hair dryer"), [], ["hair drier"]),
        (phrase("Dog", "Dog", "NNP"), [], ["dog"]),
        (phrase("iPhone", "iPhone", "NNP"), ["iPhone"], ["iphone"]),
        (phrase("scissors", "scissor", "NNS"), [], ["scissors"]),
        (phrase("vases", "vas", "NNS"), [], ["vase"]),
        (phrase("men", "men", "NNS"), [], ["man"]),
        (phrase("potted plant", "pot plant", "VBN NN"), [], ["potted plant"]),
        (phrase("red stove top oven", "", "JJ NN NN NN"), ["stove top oven"], ["stove top oven"]),
        (phrase("wine glasses", "wine glas", "NN NNS"), ["wine glass"], ["wine glass"]),
        (phrase("glass wine bottle", "", "NN NN NN"), [], ["bottle"]),
        (phrase("wine glass bottle", "", "NN NN NN"), ["wine glass"], ["wine glass", "bottle"]),
    ],
)
def test_what_the_original_loses_and_the_mended_one_finds(tokens, published, mended):
    assert [surface for surface, _ in compat(tokens)] == published
    assert [surface for surface, _ in fixed(tokens)] == mended


def test_an_object_of_three_words_is_lost_to_the_original_where_tags_break_it():
    broken = phrase("stove top oven", "", "VB JJ NN")
    assert compat(broken) == [("oven", "oven")]
    assert fixed(broken) == [("stove top oven", "oven")]


@pytest.mark.parametrize("mode", ["compat", "fixed"])
def test_running_text_keeps_repeats_and_needs_no_tags(mode):
    words = [
        Token(word, word)
        for word in ["a", "dog", "on", "a", "hot", "dog", "near", "a", "seat", "and", "a", "toilet", ",", "dog"]
    ]
    found = match.TEXT[mode](words, WORDS)
    assert [one.surface for one in found] == ["dog", "hot dog", "toilet", "dog"]


def test_running_text_mended():
    words = tokens("two men , an iphone and scissors", "two men , an iphone and scissor")
    assert match.text_as_published(words, WORDS) == []
    assert [one.surface for one in match.text(words, WORDS)] == ["man", "iphone", "scissors"]


def test_the_published_one_looks_at_lemmas_the_mended_one_at_words():
    assert [one.surface for one in match.text_as_published([Token("xyz", "dog")], WORDS)] == ["dog"]
    assert match.text([Token("xyz", "dog")], WORDS) == []


def test_standing_finds_words_as_they_are_in_the_answer():
    answer = "Two Men drink from wine glasses. A man sits."
    words = [
        Token(word, lemma, "NN", answer.index(word))
        for word, lemma in [("Men", "men"), ("wine", "wine"), ("glasses", "glass"), ("man", "man"), ("sits", "sit")]
    ]
    assert match.standing(answer, words, ["man", "wine glass", "sit down"], WORDS) == ["Men", "wine glasses", "man"]


some_words = st.sampled_from(
    ["dog", "hot", "toilet", "seat", "home", "plate", "train", "track", "baby", "bear", "teddy", "tree", "and", "Dog"]
)


@given(st.lists(st.builds(Token, some_words, some_words, st.sampled_from(["NN", "NNS", "JJ", "CC"])), max_size=8))
def test_all_mentions_are_of_the_vocabulary(words):
    for mode in ("compat", "fixed"):
        phrases = match.PHRASES[mode]([words, words], WORDS)
        assert len({one.surface for one in phrases}) == len(phrases)
        known = WORDS.canonical if mode == "compat" else WORDS.folded.canonical
        for one in [*phrases, *match.TEXT[mode](words, WORDS)]:
            assert known[one.surface] == one.canonical


@given(st.lists(some_words, max_size=8))
def test_nothing_that_the_published_one_finds_among_nouns_is_lost_to_the_mended_one(words):
    """Of plain singulars, and but for what the head of a run hides on purpose: single words."""
    singles = [[Token(word, word, "NN")] for word in words if word.islower()]
    assert match.phrases_as_published(singles, WORDS) == match.phrases(singles, WORDS)
