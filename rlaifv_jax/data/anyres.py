"""LLaVA-NeXT's way with a picture: the whole of it small, and tiles of it large, without what only fills up the canvas.

    picture ─► canvas, one of a few sizes ─► tiles, row by row      select_resolution, cut
        └────► squashed to one tile                                 the first of them
    features of all tiles ─► positions of the row                   places

Equals llava/mm_utils.py and llava/model/llava_arch.py (`anyres`, `spatial_unpad`): the features of the first tile, then
those of the grid of the others, row by row, without the rows or columns that show nothing but the canvas, and a learnt
embedding at the end of every row of the grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rlaifv_jax.data.tiles import NEWLINE


@dataclass(frozen=True)
class AnyRes:
    """tile: pixels along an edge of a tile. patch: of a patch. canvases: (width, height) in pixels."""

    tile: int
    patch: int
    canvases: tuple[tuple[int, int], ...]

    @property
    def side(self) -> int:
        """Patches along an edge of a tile."""
        return self.tile // self.patch

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """The canvas for a picture of (width, height): it shows most of its pixels, and of equal ones wastes least."""
        return max(self.canvases, key=lambda canvas: _shown(size, canvas))

    def tiles(self, size: tuple[int, int]) -> int:
        """How many tiles a picture becomes, the small one included."""
        width, height = self.canvas(size)
        return 1 + (width // self.tile) * (height // self.tile)

    def cut(self, image: Image.Image) -> np.ndarray:
        """An RGB picture → uint8[tiles, tile, tile, 3]."""
        width, height = self.canvas(image.size)
        new = _fitted(image.size, (width, height))
        canvas = Image.new("RGB", (width, height))
        canvas.paste(image.resize(new, Image.Resampling.BICUBIC), ((width - new[0]) // 2, (height - new[1]) // 2))
        whole = image.resize((self.tile, self.tile), Image.Resampling.BICUBIC)
        pixels = np.asarray(canvas, np.uint8)
        rows, columns = height // self.tile, width // self.tile
        grid = pixels.reshape(rows, self.tile, columns, self.tile, 3).swapaxes(1, 2)
        return np.concatenate([np.asarray(whole, np.uint8)[None], grid.reshape(-1, self.tile, self.tile, 3)])

    def places(self, size: tuple[int, int]) -> np.ndarray:
        """int32[positions]: which of the tiles' features stand one after the other in the row, or NEWLINE."""
        width, height = (edge // self.tile for edge in self.canvas(size))
        side = self.side
        first = np.arange(side * side)
        tiles = side * side + np.arange(width * height * side * side).reshape(height, width, side, side)
        grid = tiles.swapaxes(1, 2).reshape(height * side, width * side)
        grid = grid[_seen(size, (width * side, height * side))]
        lines = np.concatenate([grid, np.full((len(grid), 1), NEWLINE)], axis=1)
        return np.concatenate([first, lines.reshape(-1)]).astype(np.int32)


def _shown(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """Pixels of the picture that a canvas shows, and (negative) those of the canvas that show nothing."""
    scale = min(canvas[0] / size[0], canvas[1] / size[1])
    shown = min(int(size[0] * scale) * int(size[1] * scale), size[0] * size[1])
    return shown, shown - canvas[0] * canvas[1]


def _fitted(size: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """The picture's size on the canvas, its proportions kept."""
    (width, height), (wide, high) = size, canvas
    if wide / width < high / height:
        return wide, min(math.ceil(height * (wide / width)), high)
    return min(math.ceil(width * (high / height)), wide), high


def _seen(size: tuple[int, int], grid: Sequence[int]) -> tuple[slice, slice]:
    """Rows and columns of a grid of (width, height) patches that the picture reaches into."""
    (width, height), (wide, high) = size, grid
    if width / height > wide / high:
        margin = (high - int(height * (wide / width))) // 2
        return slice(margin, high - margin), slice(None)
    margin = (wide - int(width * (high / height))) // 2
    return slice(None), slice(margin, wide - margin)
