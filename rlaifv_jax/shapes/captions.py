"""Captions of scenes, and the way back from a caption to its claims."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from rlaifv_jax.shapes.scene import CELLS, COLORS, COLS, ROWS, SHAPES, SIZES, Scene, Thing

PHRASINGS = (
    "there is a {size} {color} {shape} in the {row} {col} .",
    "i see a {size} {color} {shape} at the {row} {col} .",
)
SECOND_PHRASING = 0.3  # how often a sentence uses the second one; both have the same number of words
FIRST_ONLY = (0,) * CELLS

_CLAIM = re.compile(
    rf"(?:there is|i see) a (?P<size>{'|'.join(SIZES)}) (?P<color>{'|'.join(COLORS)})"
    rf" (?P<shape>{'|'.join(SHAPES)}) (?:in|at) the (?P<row>{'|'.join(ROWS)}) (?P<col>{'|'.join(COLS)})"
)


@dataclass(frozen=True)
class Parsed:
    """What a caption says: its claims in the order of the text, and the number of unreadable sentences."""

    claims: tuple[Thing, ...]
    malformed: int

    def is_true(self, scene: Scene) -> bool:
        """Whether it says nothing that is false of the scene, and nothing that cannot be read."""
        return not self.malformed and all(claim in scene for claim in self.claims)


def sentence(thing: Thing, phrasing: int = 0) -> str:
    """One sentence of 11 words (the full stop counts as one) that claims `thing`."""
    return PHRASINGS[phrasing].format(**vars(thing))


def draw_phrasings(rng: np.random.Generator) -> tuple[int, ...]:
    """A phrasing for each of the 9 cells, so that captions of one scene can share their wording."""
    return tuple(int(second) for second in rng.random(CELLS) < SECOND_PHRASING)


def caption(things: Iterable[Thing], phrasings: Sequence[int] = FIRST_ONLY) -> str:
    """One sentence for each thing in raster order, joined by blanks. `phrasings`: one index for each cell."""
    ordered = sorted(things, key=lambda thing: thing.cell)
    return " ".join(sentence(thing, phrasings[thing.cell]) for thing in ordered)


def parse(text: str) -> Parsed:
    """Read a caption back into claims.

    Case, line breaks and blanks around full stops do not matter, nor does a missing last full stop.
    A sentence that is not exactly a claim of this world (also one cut off) counts as malformed.
    """
    claims: list[Thing] = []
    malformed = 0
    for part in text.lower().split("."):
        words = " ".join(part.split())
        match = _CLAIM.fullmatch(words)
        if match:
            claims.append(Thing(**match.groupdict()))
        elif words:
            malformed += 1
    return Parsed(tuple(claims), malformed)


def count_words(text: str) -> int:
    """Words, with every full stop and question mark as a word of its own, however the text is spaced."""
    return len(re.findall(r"[^\s.?]+|[.?]", text))


def error_kind(scene: Scene, claim: Thing) -> str | None:
    """Why a claim is false; None if it is true.

    'extra': nothing is there; 'size', 'color', 'shape': what is there differs in this; 'several': in more.
    """
    there = scene.at(claim.cell)
    if there is None:
        return "extra"
    wrong = [name for name in ("size", "color", "shape") if getattr(claim, name) != getattr(there, name)]
    if not wrong:
        return None
    return wrong[0] if len(wrong) == 1 else "several"
