"""One square of every picture: what all families see that do not cut large pictures up."""

from dataclasses import dataclass
from functools import cached_property

from PIL import Image

from rlaifv_jax.data import images
from rlaifv_jax.data.tiles import Placement, Size, Tile, Tiles, in_order, one_tile


@dataclass(frozen=True)
class Square:
    """See rlaifv_jax.data.tiles.ImageProcessor. aspect_ratio, mean: as `images.square` takes them."""

    tile: Tile
    aspect_ratio: str = "crop"
    mean: tuple[float, float, float] = images.CLIP_MEAN

    @classmethod
    def of(cls, edge: int, tokens: int, aspect_ratio: str = "crop") -> "Square":
        """A square of so many pixels along an edge, which becomes so many features."""
        return cls(Tile((edge, edge, 3), tokens), aspect_ratio)

    @cached_property
    def uniform(self) -> Placement:
        return in_order(self.tile.tokens)

    def placement(self, size: Size) -> Placement:
        images.check(size, self.tile.shape[0], self.aspect_ratio)
        return self.uniform

    def cut(self, image: Image.Image) -> Tiles:
        return one_tile(images.square(image, self.tile.shape[0], self.aspect_ratio, self.mean))
