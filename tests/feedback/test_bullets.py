"""Lists as language models write them, and as the original reads them."""

import pytest

from rlaifv_jax.feedback.bullets import read_bullets, read_bullets_legacy


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("### Facts:\n- There is a dog.\n- The dog is brown.", ["There is a dog.", "The dog is brown."]),
        ("* one\n• two\n– three\n+ four", ["one", "two", "three", "four"]),
        ("1. one\n2) two\n(3) three\n[4] four", ["one", "two", "three", "four"]),
        ("  - indented\n\t- by a tab", ["indented", "by a tab"]),
        ("-tight", ["tight"]),
        ("There is a dog.\nThere is a cat.", ["There is a dog.", "There is a cat."]),
        ("Here are the facts:\n- one\n- two\n\nLet me know if you need more.", ["one", "two"]),
        ("Facts:\none\ntwo", ["one", "two"]),
        ("**Facts:**\none", ["one"]),
        ("- a sentence that goes on\n  in the next line\n- two", ["a sentence that goes on in the next line", "two"]),
        ("- one\n\n\n- two\n-\n- ", ["one", "two"]),
        ("- the sign says ### here", ["the sign says ### here"]),
        ("- There are 3.5 litres.\n2 dogs are there", ["There are 3.5 litres. 2 dogs are there"]),
        ("2 dogs are there", ["2 dogs are there"]),
        ("**Bold** claim", ["**Bold** claim"]),
        ("", []),
        ("  \n\n", []),
        ("- one\r\n- two\r\n", ["one", "two"]),
    ],
)
def test_lists(text: str, items: list[str]) -> None:
    assert read_bullets(text) == items


def test_a_list_that_was_cut_off_loses_the_part() -> None:
    assert read_bullets("- one\n- two\n- thr", complete=False) == ["one", "two"]
    assert read_bullets("one\ntw", complete=False) == ["one"]
    assert read_bullets("- on", complete=False) == []


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("### Facts:\n- There is a dog.\n- It is brown.", ["There is a dog.", "It is brown."]),
        ("There is a dog.", ["here is a dog."]),
        ("1. X", [". X"]),
        ("- a\n  - x", ["a", "- x"]),
        ("- a\n-", ["a", ""]),
        ("- a\n   \n- b", ["a", "", "b"]),
        ("- the sign says ### here\n- b", ["b"]),
        ("- a\n- a", ["a", "a"]),
        ("", []),
    ],
)
def test_what_the_original_makes_of_them(text: str, items: list[str]) -> None:
    assert read_bullets_legacy(text) == items
