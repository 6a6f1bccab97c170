"""MiniCPM-V's way with a picture: the whole of it small and, where it is large, slices of it, each in its own shape.

Equals finetune/dataset.py of OpenBMB/MiniCPM-V (slice_image and what it calls). Every edge of a slice is a multiple of
the patch, and every slice has about as many pixels as the model was made for, whatever its proportions. So a slice is a
list of patches, padded to as many as any slice may have: programs are compiled for one shape only.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.tiles import Placement, Size, Tile, Tiles


class Slices(NamedTuple):
    """whole: pixels of the picture as a whole. grid: columns and rows of slices; (0, 0): none. each: pixels of one."""

    whole: Size
    grid: tuple[int, int]
    each: Size

    @property
    def total(self) -> int:
        """Pictures that the tower sees."""
        return 1 + self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class Slicing:
    """An ImageProcessor (tiles.py). edge: of a square with as many pixels as the tower was made for. patch: of a patch.
    most: slices at the most, the whole not counted. queries: features that every slice becomes."""

    edge: int
    patch: int
    most: int
    queries: int

    uniform = None

    @property
    def room(self) -> int:
        """Patches that a slice is padded to: an eighth more than a square has, enough for pictures of some 60:1."""
        square = (self.edge // self.patch) ** 2
        return square + max(square // 8, 8)

    @property
    def tile(self) -> Tile:
        """Pixels of every patch, row by row."""
        return Tile((self.room, self.patch**2, 3), self.queries)

    def placement(self, size: Size) -> Placement:
        """One place in the prompt for every slice."""
        plan = self.plan(size)
        for width, height in (plan.whole, plan.each):
            if (width // self.patch) * (height // self.patch) > self.room:
                raise BadRow(
                    "image_too_thin",
                    f"{size[0]}x{size[1]} pixels become a slice of {width}x{height}, which is more than the "
                    f"{self.room} patches that there is room for",
                )
        places = np.arange(plan.total * self.queries, dtype=np.int32).reshape(plan.total, self.queries)
        return Placement(plan.total, tuple(places), plan.grid)

    def cut(self, image: Image.Image) -> Tiles:
        """Patches of the whole, then of the slices row by row; zeros behind them."""
        count, p = self.placement(image.size).tiles, self.patch
        pixels, grids = np.zeros((count, *self.tile.shape), np.uint8), np.zeros((count, 2), np.int32)
        for number, picture in enumerate(self.slices(image)):
            rows, columns = grids[number] = np.array(picture.shape[:2]) // p
            patches = picture.reshape(rows, p, columns, p, 3).swapaxes(1, 2)
            pixels[number, : rows * columns] = patches.reshape(-1, p * p, 3)
        return Tiles(pixels, grids)

    def plan(self, size: Size) -> Slices:
        """What becomes of a picture of (width, height)."""
        width, height = size
        wanted = min(math.ceil(width * height / self.edge**2), self.most)
        if wanted <= 1:
            return Slices(self._fitted(width, height, grow=True), (0, 0), (0, 0))
        columns, rows = self._grid(width / height, wanted)
        each = self._fitted(self._multiple(width, columns) / columns, self._multiple(height, rows) / rows, grow=True)
        return Slices(self._fitted(width, height, grow=False), (columns, rows), each)

    def slices(self, image: Image.Image) -> list[np.ndarray]:
        """An RGB picture → uint8[height, width, 3] of the whole, then of the slices row by row."""
        plan = self.plan(image.size)
        pictures = [np.asarray(image.resize(plan.whole, Image.Resampling.BICUBIC), np.uint8)]
        columns, rows = plan.grid
        if not columns:
            return pictures
        width, height = plan.each
        large = np.asarray(image.resize((columns * width, rows * height), Image.Resampling.BICUBIC), np.uint8)
        grid = large.reshape(rows, height, columns, width, 3).swapaxes(1, 2)
        return [*pictures, *grid.reshape(-1, height, width, 3)]

    def _grid(self, ratio: float, wanted: int) -> tuple[int, int]:
        """Columns and rows of `wanted` slices, one more or less, nearest to the proportions of the picture."""
        counts = [count for count in (wanted - 1, wanted, wanted + 1) if 1 < count <= self.most]
        grids = [(m, count // m) for count in counts for m in range(1, count + 1) if count % m == 0]
        return min(grids, key=lambda grid: abs(math.log(ratio) - math.log(grid[0] / grid[1])))

    def _fitted(self, width: float, height: float, *, grow: bool) -> Size:
        """Pixels of about the model's number in the same proportions; a smaller picture grows only if told to."""
        if width * height > self.edge**2 or grow:
            ratio = width / height
            height = int(self.edge / math.sqrt(ratio))
            width = int(height * ratio)
        return self._multiple(width, self.patch), self._multiple(height, self.patch)

    @staticmethod
    def _multiple(length: float, of: int) -> int:
        """The nearest multiple; of two the even one, as Python rounds."""
        return max(round(length / of) * of, of)
