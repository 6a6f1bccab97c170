"""In which words two answers differ."""

import re
from collections import Counter
from difflib import SequenceMatcher

from rlaifv_jax.data.differences import MOST_MEETINGS

# A word, a letter of a script that puts no blanks between words, or a mark.
WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|(?:(?![\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])\w)+|[^\w\s]"
)
Pieces = list[tuple[str, bool]]  # of a text, in order; whether the other text lacks it


def differences(one: str, other: str) -> tuple[Pieces, Pieces]:
    """Both texts cut into pieces. Case counts, blanks do not.

    As in `data/differences.py`, frequent words start no match where answers loop, which would take minutes otherwise.
    """
    places = [list(WORD.finditer(text)) for text in (one, other)]
    words, others = ([match[0] for match in found] for found in places)
    counts = Counter(others)
    meetings = sum(count * counts[word] for word, count in Counter(words).items())
    matcher = SequenceMatcher(None, words, others, autojunk=meetings > MOST_MEETINGS)
    marks = [False] * len(words), [False] * len(others)
    for tag, start, end, first, last in matcher.get_opcodes():
        if tag != "equal":
            marks[0][start:end] = [True] * (end - start)
            marks[1][first:last] = [True] * (last - first)
    return _pieces(one, places[0], marks[0]), _pieces(other, places[1], marks[1])


def _pieces(text: str, places: list[re.Match[str]], marks: list[bool]) -> Pieces:
    """Neighbours with the same mark together; blanks go with what is marked on both of their sides."""
    pieces: Pieces = []
    end, marked = 0, False
    for place, mark in zip(places, marks, strict=True):
        blank = text[end : place.start()]
        if blank:
            _add(pieces, blank, mark and marked)
        _add(pieces, place[0], mark)
        end, marked = place.end(), mark
    if text[end:]:
        _add(pieces, text[end:], False)
    return pieces


def _add(pieces: Pieces, text: str, mark: bool) -> None:
    if pieces and pieces[-1][1] == mark:
        pieces[-1] = pieces[-1][0] + text, mark
    else:
        pieces.append((text, mark))
