"""Yes and no as models put them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.yes_no import yes_or_no


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes", "yes"),
        ("yes.", "yes"),
        ("**Yes**, there is no doubt.", "yes"),
        ("YES! Not far from the dog.", "yes"),
        ("There is a dog.", "yes"),
        ("The answer is yes.", "yes"),
        ("No", "no"),
        ("NO", "no"),
        ("Nope", "no"),
        ("no, there is one of another kind", "no"),
        ("No, there is not", "no"),
        ("There isn’t a dog in the image. Yes, I am sure.", "no"),
        ("Answer: No", "no"),
        ("There is not a dog.", "no"),
        ("I cannot tell.", None),
        ("I'm not sure whether there is one.", None),
        ("Yes and no are both possible.", "yes"),  # the first word decides
        ("It could be yes or no.", None),
        ("", None),
        ("...", None),
        ("A dog.", None),
        ("Nothing else", None),
    ],
)
def test_first_word_then_first_sentence(text, said):
    assert yes_or_no(text) == said


@given(st.text())
def test_any_text_is_read(text):
    assert yes_or_no(text) in ("yes", "no", None)


@given(st.sampled_from(["yes", "Yes", "YES"]), st.text(alphabet=" .,!*_\n"), st.text())
def test_what_begins_with_yes_is_yes(word, signs, rest):
    assert yes_or_no(signs + word + ". " + rest) == "yes"
