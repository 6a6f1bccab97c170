"""Scenes: a few coloured shapes on a 3×3 board, and their pictures.

Everything said about a scene can be decided exactly, because a scene *is* its list of things.
"""

import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

SIZES = ("small", "large")
COLORS = {
    "red": (222, 38, 38),
    "green": (34, 150, 62),
    "blue": (40, 88, 226),
    "yellow": (246, 200, 0),
    "purple": (160, 50, 190),
    "black": (24, 24, 28),
}
SHAPES = ("circle", "square", "triangle", "star")
ROWS = ("top", "middle", "bottom")
COLS = ("left", "center", "right")
CELLS = len(ROWS) * len(COLS)

RADIUS = {"small": 0.24, "large": 0.40}  # in cells, of the circle; other shapes are drawn to about its area
JITTER = 0.05  # in cells
OVERSAMPLING = 4  # the drawing is made this much larger and averaged down: smooth edges at 48 pixels


@dataclass(frozen=True)
class Thing:
    """One shape in one cell; also a *claim*, for a claim is the thing that a sentence says is there."""

    size: str
    color: str
    shape: str
    row: str
    col: str

    def __post_init__(self) -> None:
        for value, allowed in (
            (self.size, SIZES),
            (self.color, COLORS),
            (self.shape, SHAPES),
            (self.row, ROWS),
            (self.col, COLS),
        ):
            if value not in allowed:
                raise ValueError(f"{value!r} is not one of {', '.join(allowed)}")

    @property
    def cell(self) -> int:
        """Raster number of the cell, 0 (top left) … 8 (bottom right)."""
        return ROWS.index(self.row) * len(COLS) + COLS.index(self.col)


@dataclass(frozen=True)
class Scene:
    """Things in raster order, one a cell. `thing in scene` tells whether a claim is true.

    Raises ValueError when two things stand in the same cell.
    """

    things: tuple[Thing, ...]

    def __post_init__(self) -> None:
        ordered = tuple(sorted(self.things, key=lambda thing: thing.cell))
        if len({thing.cell for thing in ordered}) != len(ordered):
            raise ValueError("two things in one cell")
        object.__setattr__(self, "things", ordered)

    def __contains__(self, claim: Thing) -> bool:
        return claim in self.things

    def __iter__(self) -> Iterator[Thing]:
        return iter(self.things)

    def __len__(self) -> int:
        return len(self.things)

    def at(self, cell: int) -> Thing | None:
        """The thing in raster cell `cell`, or None where the cell is empty."""
        return next((thing for thing in self.things if thing.cell == cell), None)

    def empty_cells(self) -> list[int]:
        """Raster numbers of the cells without a thing, ascending."""
        return [cell for cell in range(CELLS) if self.at(cell) is None]

    def to_json(self) -> str:
        """A JSON list of the things, in raster order; equal scenes give equal text."""
        return json.dumps([asdict(thing) for thing in self.things], separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Scene":
        """The inverse of `to_json`. Raises ValueError for words outside the world."""
        return cls(tuple(Thing(**fields) for fields in json.loads(text)))


def place(cell: int) -> tuple[str, str]:
    """Row word and column word of a raster cell number."""
    return ROWS[cell // len(COLS)], COLS[cell % len(COLS)]


def sample_thing(rng: np.random.Generator, cell: int) -> Thing:
    """A thing with uniformly drawn size, colour and shape, standing in `cell`."""
    size = SIZES[rng.integers(len(SIZES))]
    color = tuple(COLORS)[rng.integers(len(COLORS))]
    return Thing(size, color, SHAPES[rng.integers(len(SHAPES))], *place(cell))


def sample_scene(rng: np.random.Generator, least: int = 2, most: int = 5) -> Scene:
    """Between `least` and `most` things (inclusive, uniform) in distinct cells."""
    cells = rng.permutation(CELLS)[: rng.integers(least, most + 1)]
    return Scene(tuple(sample_thing(rng, int(cell)) for cell in cells))


def render(scene: Scene, rng: np.random.Generator, pixels: int = 48) -> Image.Image:
    """Draw the scene as an RGB picture of `pixels` × `pixels` on a light background.

    `rng` decides background and the jitter of centres, the same at every size: one state of the generator
    gives one picture, small for the model or large for a reader.
    """
    background = tuple(int(level) for level in rng.integers(222, 256, size=3))
    side = pixels * OVERSAMPLING
    unit = side / len(COLS)
    picture = Image.new("RGB", (side, side), background)
    draw = ImageDraw.Draw(picture)
    for thing in scene:
        dx, dy = rng.uniform(-JITTER, JITTER, size=2)
        row, col = divmod(thing.cell, len(COLS))
        points = [
            ((col + 0.5 + dx + x) * unit, (row + 0.5 + dy + y) * unit)
            for x, y in _outline(thing.shape, RADIUS[thing.size])
        ]
        draw.polygon(points, fill=COLORS[thing.color])
    return picture.reduce(OVERSAMPLING)


def _outline(shape: str, radius: float) -> list[tuple[float, float]]:
    """Corners of a shape around (0, 0), in cells, y downwards."""
    if shape == "square":
        half = 0.88 * radius
        return [(-half, -half), (half, -half), (half, half), (-half, half)]
    if shape == "triangle":
        return [(0, -1.1 * radius), (1.1 * radius, 0.85 * radius), (-1.1 * radius, 0.85 * radius)]
    radii = [radius] * 48 if shape == "circle" else [1.12 * radius, 0.46 * radius] * 5
    return [(r * sin(2 * pi * k / len(radii)), -r * cos(2 * pi * k / len(radii))) for k, r in enumerate(radii)]


def encode_png(image: Image.Image) -> bytes:
    """PNG file of the picture, without loss and without metadata."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
