"""Questions about scenes, their exact answers, and false claims that are nearly true."""

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from rlaifv_jax.shapes import captions
from rlaifv_jax.shapes.scene import COLORS, COLS, ROWS, SHAPES, SIZES, Scene, Thing, place

DESCRIBE = "describe the image ."
NEAR_MISSES = ("size", "color", "shape", "other_cell", "empty_cell")
TRUE_CLAIMS = 0.55  # of claims about cells that are not empty, as they are taught
MISSES = {"size": 1, "color": 1, "shape": 1, "other_cell": 1}
HARD_MISSES = {"size": 1, "color": 2, "shape": 3, "other_cell": 1}  # the harder to see, the oftener

_IF = re.compile(
    rf"is there in the (?P<row>{'|'.join(ROWS)}) (?P<col>{'|'.join(COLS)})"
    rf" a (?P<size>{'|'.join(SIZES)}) (?P<color>{'|'.join(COLORS)}) (?P<shape>{'|'.join(SHAPES)}) ?\?"
)
_WHOLE = "is right ? "
_WHAT = re.compile(rf"what is in the (?P<row>{'|'.join(ROWS)}) (?P<col>{'|'.join(COLS)}) ?\?")


def ask_if(claim: Thing) -> str:
    """The yes/no question that checks a claim. The place comes first: each attribute can be checked as it is read."""
    return f"is there in the {claim.row} {claim.col} a {claim.size} {claim.color} {claim.shape} ?"


def ask_what(cell: int) -> str:
    """The question for the content of a raster cell (0 … 8)."""
    row, col = place(cell)
    return f"what is in the {row} {col} ?"


def ask_whole(caption: str) -> str:
    """One question about all that a caption claims, for comparison with asking about each claim."""
    return f"{_WHOLE}{caption}"


def truth(scene: Scene, question: str) -> str:
    """The one right answer: 'yes' or 'no'; 'small blue star' or 'nothing'.

    Raises ValueError for any other question ("describe the image ." has many right answers).
    """
    text = " ".join(question.lower().split())
    if match := _IF.fullmatch(text):
        return "yes" if Thing(**match.groupdict()) in scene else "no"
    if text.startswith(_WHOLE):
        return "yes" if captions.parse(text.removeprefix(_WHOLE)).is_true(scene) else "no"
    if match := _WHAT.fullmatch(text):
        there = scene.at(ROWS.index(match["row"]) * len(COLS) + COLS.index(match["col"]))
        return "nothing" if there is None else f"{there.size} {there.color} {there.shape}"
    raise ValueError(f"not a question with one answer: {question!r}")


def near_miss(scene: Scene, rng: np.random.Generator, kind: str | None = None) -> Thing:
    """A false claim close to a true one; `kind` is one of NEAR_MISSES, drawn uniformly when None.

    size, color, shape: one attribute of a thing is changed. other_cell: its description is moved to the cell
    of another thing. empty_cell: it is moved to an empty cell. Where all things look the same there is no
    other_cell miss, and an empty_cell one is given. Raises ValueError for an unknown kind.
    """
    kind = kind or NEAR_MISSES[rng.integers(len(NEAR_MISSES))]
    thing = scene.things[rng.integers(len(scene))]
    if kind in ("size", "color", "shape"):
        return change(thing, kind, rng)
    moved = [_moved(thing, other.cell) for other in scene if _moved(thing, other.cell) not in scene]
    if kind == "empty_cell" or (kind == "other_cell" and not moved):
        moved = [_moved(thing, cell) for cell in scene.empty_cells()]
    elif kind != "other_cell":
        raise ValueError(f"unknown kind of near miss: {kind!r}")
    return moved[rng.integers(len(moved))]


def claim_about(scene: Scene, cell: int, rng: np.random.Generator, misses: Mapping[str, int]) -> Thing:
    """A claim about what is in a cell: true in TRUE_CLAIMS of the cases, else nearly, by the weights of `misses`.

    Of an empty cell it says that a thing of the scene is there.
    """
    there = scene.at(cell)
    if there is not None and rng.random() < TRUE_CLAIMS:
        return there
    others = [moved for thing in scene if (moved := _moved(thing, cell)) != there]
    kinds = list(misses)
    kind = kinds[rng.choice(len(kinds), p=np.array(list(misses.values())) / sum(misses.values()))]
    if there is None or (kind == "other_cell" and others):
        return others[rng.integers(len(others))]
    return change(there, "shape" if kind == "other_cell" else kind, rng)


def change(thing: Thing, attribute: str, rng: np.random.Generator) -> Thing:
    """The thing with another value of 'size', 'color' or 'shape', drawn uniformly."""
    values: tuple[str, ...] = {"size": SIZES, "color": tuple(COLORS), "shape": SHAPES}[attribute]
    others = [value for value in values if value != getattr(thing, attribute)]
    return replace(thing, **{attribute: others[rng.integers(len(others))]})


def _moved(thing: Thing, cell: int) -> Thing:
    row, col = place(cell)
    return replace(thing, row=row, col=col)
