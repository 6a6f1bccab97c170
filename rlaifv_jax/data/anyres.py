"""LLaVA-NeXT's way with a picture: the whole of it small, and tiles of it large, without what only fills up the canvas.

    picture ─► canvas, one of a few sizes ─► tiles, row by row      cut
        └────► squashed to one tile                                 the first of them
    features of all tiles ─► positions of the row                   placement

Equals llava/mm_utils.py and llava/model/llava_arch.py (`anyres`, `spatial_unpad`): the features of the first tile, then
those of the grid of the others, row by row, without the rows or columns that show nothing but the canvas, and a learnt
embedding at the end of every row of the grid.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rlaifv_jax.data.tiles import NEWLINE, Placement, Size, Tile, Tiles, squares


@dataclass(frozen=True)
class AnyRes:
    """An ImageProcessor. edge: pixels along an edge of a tile. patch: of a patch. canvases: width and height in pixels,
    multiples of the edge."""

    edge: int
    patch: int
    canvases: tuple[Size, ...]

    uniform = None

    @property
    def side(self) -> int:
        """Patches along an edge of a tile."""
        return self.edge // self.patch

    @property
    def tile(self) -> Tile:
        return Tile((self.edge, self.edge, 3), self.side**2)

    def canvas(self, size: Size) -> Size:
        """The canvas for a picture: it shows most of its pixels, and of equal ones wastes least."""
        return max(self.canvases, key=lambda canvas: _shown(size, canvas))

    def placement(self, size: Size) -> Placement:
        """The small tile and those of the canvas, and which of their features stand one after the other in the row."""
        columns, rows = (length // self.edge for length in self.canvas(size))
        side = self.side
        first = np.arange(side * side)
        tiles = side * side + np.arange(columns * rows * side * side).reshape(rows, columns, side, side)
        grid = tiles.swapaxes(1, 2).reshape(rows * side, columns * side)
        grid = grid[_seen(size, (columns * side, rows * side))]
        lines = np.concatenate([grid, np.full((len(grid), 1), NEWLINE)], axis=1)
        places = np.concatenate([first, lines.reshape(-1)]).astype(np.int32)
        return Placement(1 + columns * rows, (places,))

    def cut(self, image: Image.Image) -> Tiles:
        """An RGB picture → the small tile, then those of the canvas row by row."""
        width, height = self.canvas(image.size)
        new = _fitted(image.size, (width, height))
        canvas = Image.new("RGB", (width, height))
        canvas.paste(image.resize(new, Image.Resampling.BICUBIC), ((width - new[0]) // 2, (height - new[1]) // 2))
        whole = image.resize((self.edge, self.edge), Image.Resampling.BICUBIC)
        pixels = np.asarray(canvas, np.uint8).reshape(height // self.edge, self.edge, width // self.edge, self.edge, 3)
        grid = pixels.swapaxes(1, 2).reshape(-1, self.edge, self.edge, 3)
        return squares(np.concatenate([np.asarray(whole, np.uint8)[None], grid]))


def _shown(size: Size, canvas: Size) -> tuple[int, int]:
    """Pixels of the picture that a canvas shows, and (negative) those of the canvas that show nothing."""
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    shown = min(int(size[0] * scale) * int(size[1] * scale), size[0] * size[1])
    return shown, shown - canvas[0] * canvas[1]


def _fitted(size: Size, canvas: Size) -> Size:
    """The picture's size on the canvas, its proportions kept."""
    (width, height), (wide, high) = size, canvas
    if wide / width < high / height:
        return wide, min(math.ceil(height * (wide / width)), high)
    return min(math.ceil(width * (high / height)), wide), high


def _seen(size: Size, grid: Size) -> tuple[slice, slice]:
    """Rows and columns of a grid of (width, height) patches that the picture reaches into."""
    (width, height), (wide, high) = size, grid
    if width / height > wide / high:
        margin = (high - int(height * (wide / width))) // 2
        return slice(margin, high - margin), slice(None)
    margin = (wide - int(width * (high / height))) // 2
    return slice(None), slice(margin, wide - margin)
