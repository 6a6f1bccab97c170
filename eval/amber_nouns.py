"""Which things a description of an AMBER picture names: those that are there, and those that are not.

A thing is meant by its own word or by one associated with it ('boat' by 'ship'), or else by a word whose vectors are
similar. Published figures take the vectors of spaCy's en_core_web_lg; without any, only words and associations count,
so CHAIR is higher and Cover lower.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from eval.benchmark import Mode
from eval.files import read_bytes, text_in
from rlaifv_jax.errors import UserError

SIMILAR = 0.8  # similarity above which two words mean the same thing
Similar = Callable[[str, str], float | None]


class Token(Protocol):
    """text: as it stands in the answer. lemma: its dictionary form. tag: of the Penn Treebank."""

    @property
    def text(self) -> str: ...
    @property
    def lemma(self) -> str: ...
    @property
    def tag(self) -> str: ...


@runtime_checkable
class Tagger(Protocol):
    """An extractor may also have `similar(a, b)`, from -1 to 1, None for words without vectors, and `similarity`, the
    name of these vectors. One with a `tagged` that is false does not tag."""

    name: str

    def tokens(self, text: str) -> Sequence[Token]: ...


@dataclass(frozen=True)
class Words:
    """related: of every thing, the words associated with it. safe: words that are never hallucinated."""

    related: Mapping[str, tuple[str, ...]]
    safe: tuple[str, ...]

    @property
    def all(self) -> list[str]:
        """Every word that is looked at, each once."""
        return list(dict.fromkeys(word for thing, others in self.related.items() for word in (thing, *others)))


def read_words(relation: Path, safe: Path) -> Words:
    """Raises `UserError` for files that are not AMBER's."""
    try:
        related = json.loads(text_in(read_bytes(relation), relation))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{relation} is no JSON ({error}); fetch it again") from None
    lines = text_in(read_bytes(safe), safe).splitlines()
    if not isinstance(related, dict) or not all(_is_words(others) for others in related.values()):
        raise UserError(f"{relation}: an object of lists of words is needed")
    return Words({thing: tuple(others) for thing, others in related.items()}, tuple(line for line in lines if line))


def _is_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


@dataclass(frozen=True)
class Noun:
    """word: as AMBER writes it. surface: as the answer does."""

    word: str
    surface: str


def nouns_as_published(tokens: Iterable[Token], vocabulary: Iterable[str]) -> list[Noun]:
    return _nouns(tokens, {word: word for word in vocabulary}, str)


def nouns(tokens: Iterable[Token], vocabulary: Iterable[str]) -> list[Noun]:
    """The same, with capital letters at the start of a sentence or in a title."""
    return _nouns(tokens, {word.lower(): word for word in vocabulary}, str.lower)


NOUNS: dict[Mode, Callable[[Iterable[Token], Iterable[str]], list[Noun]]] = {
    "compat": nouns_as_published,
    "fixed": nouns,
}


def _nouns(tokens: Iterable[Token], known: Mapping[str, str], fold: Callable[[str], str]) -> list[Noun]:
    found = ((token, known.get(fold(token.lemma))) for token in tokens if token.tag.startswith("NN"))
    return [Noun(word, token.text) for token, word in found if word is not None]


@dataclass
class Findings:
    """hallucinated: nouns for what is not there. covered: places of true things that are named. imagined: places of
    things that the picture makes one expect, which are not there and are named."""

    hallucinated: list[Noun] = field(default_factory=list)
    covered: set[int] = field(default_factory=set)
    imagined: set[int] = field(default_factory=set)


def weigh(
    nouns: Iterable[Noun],
    truth: Sequence[str],
    expected: Sequence[str],
    related: Mapping[str, Sequence[str]],
    safe: Iterable[str],
    similar: Similar | None,
) -> Findings:
    """What nouns say about a picture. truth, expected: things that are in it, and that are not; each has an entry in
    `related`. A noun stands for one thing, the first that it fits, and associations go first, as published.
    """
    found, safe = Findings(), frozenset(safe)
    true, false = _targets(truth, related), _targets(expected, related)
    for noun in nouns:
        if noun.word in safe:
            continue
        if (place := _same(noun.word, true)) is not None:
            found.covered.add(place)
            continue
        named = (_same(noun.word, false), _near(noun.word, false, similar))
        found.imagined |= {place for place in named if place is not None}
        if (place := _near(noun.word, true, similar)) is not None:
            found.covered.add(place)
        else:
            found.hallucinated.append(noun)
    return found


def cached(similar: Similar | None) -> Similar | None:
    """Vectors are compared once for each two words, of which there are few."""
    return None if similar is None else cache(similar)


Targets = Sequence[tuple[str, int]]  # word → place of the thing


def _targets(things: Sequence[str], related: Mapping[str, Sequence[str]]) -> Targets:
    associated = [(word, place) for place, thing in enumerate(things) for word in related[thing]]
    return associated + [(thing, place) for place, thing in enumerate(things)]


def _same(noun: str, targets: Targets) -> int | None:
    return next((place for word, place in targets if word == noun), None)


def _near(noun: str, targets: Targets, similar: Similar | None) -> int | None:
    if similar is None:
        return None
    return next((place for word, place in targets if (similar(noun, word) or 0) > SIMILAR), None)
