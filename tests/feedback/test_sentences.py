"""Claims by a rule."""

import pytest

from rlaifv_jax.feedback.functions import load_function
from rlaifv_jax.feedback.sentences import ask, split


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("A dog sits here. It is brown!  Is it?", ["A dog sits here.", "It is brown!", "Is it?"]),
        ("Dr. J. Smith has 3.5 apples, e.g. red ones. He eats.", None),
        ("- A red cup\n- A blue cup.\n2. A cat sleeps", ["A red cup", "A blue cup.", "A cat sleeps"]),
        ('He says "Stop it now." Then he goes away', ['He says "Stop it now."', "Then he goes away"]),
        ("一只狗。它是棕色的！", ["一只狗。", "它是棕色的！"]),
        ("Yes. The dog is black.", ["Is there a dog? Yes.", "The dog is black."]),
        (" … \n", []),
        ("", []),
    ],
)
def test_sentences(answer: str, expected: list[str] | None) -> None:
    if expected is None:
        expected = ["Dr. J. Smith has 3.5 apples, e.g. red ones.", "He eats."]
    assert split("Is there  a dog?", answer) == expected


def test_as_the_stages_name_them() -> None:
    claims = load_function("rlaifv_jax.feedback.sentences:split", "divide.by").texts("claims", "What?", "A dog runs.")
    assert ask(claims) == ['Is it true of this picture: "A dog runs."']
