"""Claims by a rule, where no language model is at hand: a claim is a sentence, its question whether that is true.

Named in configs as functions: rlaifv_jax.feedback.sentences:split and rlaifv_jax.feedback.sentences:ask. Cruder than a
model's claims: a sentence may hold several facts, and its pronouns point to sentences before it.
"""

import re
from collections.abc import Sequence

FEW = 1  # word; a sentence of so few says nothing without what was asked

_BULLET = re.compile(r"^\s*(?:[-–—•*+]|\(?\d{1,3}[.)])\s+", re.MULTILINE)
_SHORT = ("mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e", "approx", "fig")
_END = re.compile(r"(?P<word>[\w.]*)(?P<mark>[.!?…]+[\"'”’)\]]*)(?=\s|$)|[。！？]+[」』”]*|\n+")


def split(question: str, answer: str) -> list[str]:
    """The sentences of an answer, also its lines and the items of lists. One of a single word ("Yes.") stands behind
    the question, without which it says nothing; words are counted where blanks part them."""
    sentences = [" ".join(part.split()) for part in _parts(_BULLET.sub("", answer))]
    return [
        f"{' '.join(question.split())} {sentence}" if len(sentence.split()) <= FEW and sentence.isascii() else sentence
        for sentence in sentences
        if re.search(r"\w", sentence)
    ]


def ask(claims: Sequence[str]) -> list[str]:
    """The yes/no question of every claim."""
    return [f'Is it true of this picture: "{claim}"' for claim in claims]


def _parts(text: str) -> list[str]:
    parts, start = [], 0
    for found in _END.finditer(text):
        word = (found["word"] or "").lower()
        if found["mark"] == "." and (word in _SHORT or re.fullmatch(r"[^\W\d]", word)):
            continue  # an abbreviation, an initial
        parts.append(text[start : found.end()])
        start = found.end()
    return [*parts, text[start:]]
