"""Which of four options an answer chooses."""

import re
from collections.abc import Mapping

NONE = "none"  # of an answer in which the original finds no option

_STATED = re.compile(
    r"(?i:\b(?:answer|option|choice)\b(?:\s+(?:is|would be|should be))?(?:\s+(?:option|choice))?\W{0,4})"
    r"(?:([A-D])\b|([a-d])(?=\W*(?:$|\n)|[).:,]))(?!')"
)
_ALONE = re.compile(r"\W*([A-Da-d])(?:\W*$|\s*[).:,\]]|\W*\n)")
_LETTER = re.compile(r"(?<![\w'&])(?:\(([A-D])\)|([B-D]|A(?!\s+(?!(?:is|or|and)\b)[a-z]))(?![\w'&]))")
_OPTION = re.compile(
    r"(?:^|(?<=[\s,;(]))\(?([A-D])\s*[:.)]\s*(.*?)(?=[\s,;]*(?:(?<=[\s,;])\(?[B-D]\s*[:.)]\s|$))", re.S
)


def option_as_published(answer: str, question: str) -> str | None:
    text = answer.lower().strip().replace("\n", " ")
    starts = (start for start in ("", "(", "option ", "the answer is ") if text.startswith(start))
    letters = (text[len(start) : len(start) + 1] for start in starts)
    return next((letter.upper() for letter in letters if letter in set("abcd")), NONE)


def option(answer: str, question: str) -> str | None:
    """The letter that an answer gives, None without a single one.

    First what stands alone or in front, then what is called the answer (last), then one letter anywhere, then the text
    of one option. An A in front of a word in small letters is an article.
    """
    text = re.sub(r"[*_`$]|\\boxed|\\text", "", answer).strip()
    if alone := _ALONE.match(text):
        return alone[1].upper()
    if stated := _stated(text):
        return stated
    letters = {bracketed or bare for bracketed, bare in _LETTER.findall(text)}
    if letters:
        return letters.pop() if len(letters) == 1 else None
    return _by_text(text, options_of(question))


def options_of(question: str) -> dict[str, str]:
    """Letter → text of the options in a question; none where they do not count up from A."""
    _, _, listed = question.rpartition("Options:")
    found = [(letter, text.strip(" ,;.\n")) for letter, text in _OPTION.findall(listed)]
    letters = [letter for letter, _ in found]
    return dict(found) if letters and letters == list("ABCD")[: len(letters)] else {}


def _stated(text: str) -> str | None:
    found = [upper or lower for upper, lower in _STATED.findall(text)]
    return found[-1].upper() if found else None


def _by_text(answer: str, options: Mapping[str, str]) -> str | None:
    """The only option whose text stands in the answer; one that is part of another that stands there does not count."""
    answer = answer.lower()
    there = {
        letter: text.lower()
        for letter, text in options.items()
        if text and re.search(rf"(?<!\w){re.escape(text.lower())}(?!\w)", answer)
    }
    whole = [one for one, text in there.items() if not any(text != more and text in more for more in there.values())]
    return whole[0] if len(whole) == 1 else None
