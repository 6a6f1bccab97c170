"""Random views of training pictures: crop, flip and RandAugment (arXiv 1909.13719), as Muffin and RLHF-V train.

The recipe is that of `build_transform` in muffin/model/utils.py: a crop of half the picture or more, stretched to the
square; a flip every second time; then two of ten operations, each carried out every second time. The magnitudes are
those of beit3/randaug.py in microsoft/unilm, which has these operations and levels: at level 7 of 10 a factor of
7/10·1.8 + 0.1 for brightness and sharpness, a shear of 7/10·0.3, a shift of 7/10·10 pixels, 7/10·30 degrees, with
either sign; grey where nothing is left of the picture. That code warps with OpenCV; Pillow gives the same picture but
for rounding, and for the pixels where picture and grey meet, which OpenCV blends. Values that sharpness drives out of
0 … 255 wrap around there and are cut off here.

A view is a function of seed, row and, where every step shall see another one, step: workers and hosts do not matter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from rlaifv_jax.data.order import generator

VERSION = 1  # raise when the same seed gives other pixels: reference log-probs of before are then refused
AUGMENTATIONS = ("", "muffin")
VIEWS = ("same", "fresh")

LEAST_AREA = 0.5  # of a picture that a crop keeps
LONGEST = 4 / 3  # a crop's longer side by its shorter
ATTEMPTS = 10  # at a crop that fits, as torchvision has it
OPERATIONS = 2  # drawn for a picture, with replacement
CHANCE = 0.5  # of a flip, and of each operation drawn
LEVEL = 7 / 10
FACTOR = LEVEL * 1.8 + 0.1
SHEAR = LEVEL * 0.3
SHIFT = LEVEL * 10  # pixels, whatever the picture's size
ANGLE = LEVEL * 30  # degrees
GREY = (128, 128, 128)


def _affine(image: Image.Image, matrix: tuple[float, float, float, float, float, float]) -> Image.Image:
    """matrix: from the new picture's pixel centres, counted from 0, to those of the old one."""
    a, b, c, d, e, f = matrix
    corners = (a, b, c + (1 - a - b) / 2, d, e, f + (1 - d - e) / 2)  # Pillow counts from the corner
    return image.transform(image.size, Image.Transform.AFFINE, corners, Image.Resampling.BILINEAR, fillcolor=GREY)


def _rotate(image: Image.Image, sign: int) -> Image.Image:
    centre = ((image.width + 1) / 2, (image.height + 1) / 2)  # the pixel behind the middle, as there
    return image.rotate(sign * ANGLE, Image.Resampling.BILINEAR, center=centre, fillcolor=GREY)


Operation = Callable[[Image.Image, int], Image.Image]  # an RGB picture, a sign → one of the same size
OPS: dict[str, Operation] = {
    "identity": lambda image, sign: image,
    "autocontrast": lambda image, sign: ImageOps.autocontrast(image),
    "equalize": lambda image, sign: ImageOps.equalize(image),
    "brightness": lambda image, sign: ImageEnhance.Brightness(image).enhance(FACTOR),
    "sharpness": lambda image, sign: ImageEnhance.Sharpness(image).enhance(FACTOR),
    "shear x": lambda image, sign: _affine(image, (1, -sign * SHEAR, 0, 0, 1, 0)),
    "shear y": lambda image, sign: _affine(image, (1, 0, 0, -sign * SHEAR, 1, 0)),
    "translate x": lambda image, sign: _affine(image, (1, 0, sign * SHIFT, 0, 1, 0)),
    "translate y": lambda image, sign: _affine(image, (1, 0, 0, 0, 1, sign * SHIFT)),
    "rotate": _rotate,
}


class View(NamedTuple):
    """box: left, upper, right, lower pixel of the crop. ops: names in OPS with signs, in their order."""

    box: tuple[int, int, int, int]
    flip: bool
    ops: tuple[tuple[str, int], ...]


def draw(shape: tuple[int, int], chance: np.random.Generator) -> View:
    """A view of a picture of this width and height."""
    box = _draw_box(shape, chance)
    flip = bool(chance.random() < CHANCE)
    names = chance.choice(list(OPS), OPERATIONS)
    signs = chance.choice([-1, 1], OPERATIONS)
    done = chance.random(OPERATIONS) < CHANCE
    drawn = zip(names, signs, done, strict=True)
    return View(box, flip, tuple((str(name), int(sign)) for name, sign, carried_out in drawn if carried_out))


def _draw_box(shape: tuple[int, int], chance: np.random.Generator) -> tuple[int, int, int, int]:
    """Where torchvision's RandomResizedCrop would cut: area uniform, proportions uniform in their logarithm."""
    width, height = shape
    bound = math.log(LONGEST)
    for _ in range(ATTEMPTS):
        area = width * height * chance.uniform(LEAST_AREA, 1)
        ratio = math.exp(chance.uniform(-bound, bound))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(chance.integers(width - w + 1)), int(chance.integers(height - h + 1))
            return left, upper, left + w, upper + h
    # Too oblong for most crops: as much of the middle as the proportions allow.
    w, h = min(width, round(height * LONGEST)), min(height, round(width * LONGEST))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def show(image: Image.Image, view: View, size: int) -> np.ndarray:
    """An RGB picture → uint8[size, size, 3]."""
    image = image.crop(view.box).resize((size, size), Image.Resampling.BICUBIC)
    if view.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for name, sign in view.ops:
        image = OPS[name](image, sign)
    return np.asarray(image, np.uint8)


@dataclass(frozen=True)
class Augment:
    """Views of the rows of a source. fresh: another one at every step, else one for ever. Picklable."""

    seed: int
    fresh: bool = False

    @property
    def identity(self) -> tuple[str, int, int]:
        """What decides the views that stay."""
        return ("muffin", VERSION, self.seed)

    def __call__(self, image: Image.Image, size: int, *, row: int, step: int) -> np.ndarray:
        """The view of a row's RGB picture: uint8[size, size, 3]."""
        chance = generator(self.seed, row, purpose="view", moment=1 + step if self.fresh else 0)
        return show(image, draw(image.size, chance), size)
