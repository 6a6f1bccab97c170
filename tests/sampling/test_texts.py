"""Where the text of an answer ends and begins, while it grows and when it is whole."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlaifv_jax.sampling.texts import Texts

LETTERS = SimpleNamespace(vocab_size=300, decode=lambda tokens: "".join(map(chr, tokens)))


def texts(stop: tuple[str, ...] = ("###",), lead: str = "Assistant:") -> Texts:
    return Texts(LETTERS, stop, lead)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (" Assistant: A dog.\n###", "A dog."),
        (" Assistant: A dog.\n### Human: what", "A dog."),
        ("A dog.\n### Assistant: more", "A dog."),
        (" Assistant: The Assistant: sits", "The Assistant: sits"),
        ("no lead at all", "no lead at all"),
        ("### x", ""),
        ("", ""),
    ],
)
def test_answers(said: str, answer: str) -> None:
    tokens = list(said.encode())
    assert texts().answer([*tokens, 300]) == answer  # 300 is a row that no token has
    assert texts().stopped(tokens) == ("###" in said)


@given(st.lists(st.sampled_from([" Assistant:", "Assist", " ", "#", "##", "\n", "dog", "."]), max_size=12))
def test_what_is_certain_stays(parts: list[str]) -> None:
    """Every beginning of a text shows a beginning of its answer, provided that the lead is written at all."""
    said = list("".join([" Assistant:", *parts]).encode())
    for made in (texts(), texts(lead=""), texts(stop=())):
        answer = made.answer(said)
        for length in range(len(said) + 1):
            assert answer.startswith(made.certain(said[:length]))


def test_nothing_is_shown_before_the_lead() -> None:
    assert texts().certain(list(b" Assist")) == ""
    assert texts().certain(list(b" Assistant: A do")) == "A do"
    assert texts().certain(list(b" Assistant: A dog.\n##")) == "A dog."
