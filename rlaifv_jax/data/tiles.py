"""What becomes of a picture: tiles that the tower sees, and places in the row where their features stand.

    picture ─► ImageProcessor.cut        Tiles      pixels of n tiles, all of one shape
    its size ─► ImageProcessor.placement  Placement  which features stand at each IMAGE_TOKEN of the prompt

Most families make one square tile of every picture, whose features stand in their order. LLaVA-NeXT cuts large pictures
into a grid of squares (anyres.py), MiniCPM-V into slices of many shapes (slicing.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from rlaifv_jax.data.batch import Array
from rlaifv_jax.data.faults import BadRow

Size = tuple[int, int]  # width, height

NEWLINE = -2  # in places: not a feature of a tile, but the learnt embedding that ends a line of a grid


class Tile(NamedTuple):
    """shape: of a tile's pixels in a batch, the last axis RGB. tokens: features that a tile becomes (P)."""

    shape: tuple[int, ...]
    tokens: int


class Tiles(NamedTuple):
    """pixels: uint8[n, *Tile.shape]. grids: int32[n, 2], rows and columns of patches in each; 0 where nobody asks."""

    pixels: Array
    grids: Array


@dataclass(frozen=True, eq=False)
class Placement:
    """tiles: n of a picture. places: for every IMAGE_TOKEN of the prompt int32[positions], numbers of features among
    the n·P of the picture's tiles, or NEWLINE. slices: columns and rows of slices that the prompt tells of, if any."""

    tiles: int
    places: tuple[np.ndarray, ...]
    slices: tuple[int, int] = (0, 0)

    @property
    def positions(self) -> int:
        """What the picture takes of a row."""
        return sum(map(len, self.places))

    @property
    def surplus(self) -> int:
        """The same beyond the IMAGE_TOKENs themselves."""
        return self.positions - len(self.places)


class ImageProcessor(Protocol):
    """How the pictures of a model are prepared. Implementations are picklable, and their repr says all that decides
    pixels and places."""

    @property
    def tile(self) -> Tile: ...

    @property
    def uniform(self) -> Placement | None:
        """The placement of every picture, where it does not depend on the size."""

    def placement(self, size: Size) -> Placement:
        """Raises `BadRow` for a picture that is far too thin."""

    def cut(self, image: Image.Image) -> Tiles:
        """An RGB picture → its tiles. Raises as `placement`."""


def in_order(tokens: int) -> Placement:
    """One tile whose features stand in their order."""
    return Placement(1, (np.arange(tokens, dtype=np.int32),))


def placement_of(processor: ImageProcessor | None, size: Callable[[], Size]) -> Placement:
    """Of a picture whose size is asked for only where it matters. Raises `BadRow` for a model that sees nothing, and as
    `processor.placement` and `size` do."""
    if processor is None:
        raise BadRow("image_for_text_model", "this model is a language model without a tower")
    return processor.uniform or processor.placement(size())


def squares(pixels: Array) -> Tiles:
    """Pixels [n, edge, edge, 3] of tiles whose grids nobody asks for."""
    return Tiles(pixels, np.zeros((len(pixels), 2), np.int32))


def one_tile(pixels: np.ndarray) -> Tiles:
    """Pixels of a picture that is a single square."""
    return squares(pixels[None])
