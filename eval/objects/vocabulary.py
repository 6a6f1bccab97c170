"""The 80 classes of COCO and the words for them: vocabulary.txt, whose licence is VOCABULARY_LICENSE.

A line is a class: its words between commas, the first one its name.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from eval.objects.lemmas import singular
from rlaifv_jax.errors import UserError

FILE = Path(__file__).parent / "vocabulary.txt"
ANIMALS = (
    *("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
    *("animal", "cub"),
)
TRAPS = ("home plate", "train track")  # no objects, but their words would be
SHORTER = {
    **{f"{age} {animal}": animal for age in ("baby", "adult") for animal in ANIMALS},
    "passenger jet": "jet",
    "passenger train": "train",
    "bow tie": "tie",
    "toilet seat": "toilet",
    "wine glas": "wine glass",
}
OTHER_SPELLINGS = {"hair dryer": "hair drier"}


@dataclass(frozen=True)
class Vocabulary:
    """canonical: entry → name of its class. joined: several words → what they are taken for. sha256: of the file."""

    canonical: Mapping[str, str]
    joined: Mapping[str, str]
    sha256: str

    @cached_property
    def words(self) -> frozenset[str]:
        """Every single word that an entry, or a word to be joined, is made of."""
        return frozenset(word for entry in (*self.canonical, *self.joined) for word in entry.split())

    @cached_property
    def folded(self) -> "Vocabulary":
        """In small letters, and with spellings that it lacks."""
        small = {word.lower(): name for word, name in self.canonical.items()}
        return Vocabulary(small, {**self.joined, **OTHER_SPELLINGS}, self.sha256)

    def singular(self, word: str) -> str:
        return singular(word, self.words)


def parse(text: str) -> dict[str, str]:
    """Entry → canonical entry, in the order of the text.

    Raises:
      UserError: an empty entry, or an entry in two classes.
    """
    canonical: dict[str, str] = {}
    for number, name, entry in _entries(text):
        if not entry:
            raise UserError(f"vocabulary, line {number}: an entry is empty; leave it out")
        if canonical.setdefault(entry, name) != name:
            raise UserError(f"vocabulary, line {number}: {entry!r} is a {canonical[entry]} already; leave it out")
    return canonical


def _entries(text: str) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        entries = [entry.strip() for entry in line.split(",")]
        yield from ((number, entries[0], entry) for entry in entries)


def joined_words(canonical: Mapping[str, str]) -> dict[str, str]:
    """Every entry of several words, and pairs of words of which only one counts, or none."""
    return {
        **{entry: entry for entry in canonical if " " in entry},
        **{trap: trap for trap in TRAPS},
        **SHORTER,
    }


@cache
def load() -> Vocabulary:
    """The packaged one."""
    content = FILE.read_bytes()
    canonical = parse(content.decode())
    return Vocabulary(canonical, joined_words(canonical), hashlib.sha256(content).hexdigest())
