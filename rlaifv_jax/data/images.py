"""From encoded bytes to a picture, and from a picture to one square.

Three roads lead there: of LLaVA the centre crop (training and log-probs of RLAIF-V) and the padded square
(`process_images` in llava/mm_utils.py: generation and evaluation), which both equal the PIL backend of transformers'
CLIP image processor; of OmniLMM and Muffin plain resizing, whatever becomes of the
proportions (omnilmm/model/utils.py). What becomes of a picture otherwise: tiles.py.
"""

import io
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from rlaifv_jax.data.faults import BadRow

T = TypeVar("T")

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
MAX_PIXELS = 178_956_970  # where Pillow itself refuses; checked from the header, before any pixel is decoded

SQUARES = ("crop", "pad", "squash")  # how an oblong image becomes a square
ASPECT_RATIOS = (*SQUARES, "anyres", "slices")  # and what LLaVA-NeXT and MiniCPM-V do instead

# Pillow also opens EPS, which runs Ghostscript, and other formats that no photograph has: a short list is
# safer. What this build of Pillow lacks is left out.
Image.init()
WANTED = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
FORMATS = tuple(name for name in WANTED if name in Image.OPEN)


def decode(data: bytes) -> Image.Image:
    """Return the RGB image in `data`, every pixel decoded. Raises `BadRow` if that is not possible.

    As in the original (`bytes_to_PIL_image` of muffin/data/datasets.py), EXIF orientation is not applied and
    an alpha channel is dropped; transformers 5 would lay the image on white instead.
    """
    return _opened(data, lambda image: image.convert("RGB"))  # loads the whole file; a truncated one raises OSError


def size(data: bytes) -> tuple[int, int]:
    """Width and height of the image in `data`, of which only the header is read. Raises `BadRow` as `decode`."""
    return _opened(data, lambda image: image.size)


def _opened(data: bytes, use: Callable[[Image.Image], T]) -> T:
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise BadRow("image_too_large", f"{image.width}x{image.height} pixels")
        if image.mode.startswith(("I", "F")):
            raise BadRow("image_undecodable", f"mode {image.mode}: more than 8 bits a channel; convert it to 8")
        return use(image)
    except BadRow:
        raise
    except UnidentifiedImageError:
        raise BadRow("image_undecodable", f"{len(data)} bytes in no known format") from None
    except Image.DecompressionBombError as error:
        raise BadRow("image_too_large", str(error)) from None
    except Exception as error:  # codecs raise anything from SyntaxError to struct.error on broken files
        raise BadRow("image_undecodable", f"{type(error).__name__}: {error} ({len(data)} bytes)") from None


def square(
    image: Image.Image, size: int, aspect_ratio: str, mean: tuple[float, float, float] = CLIP_MEAN
) -> np.ndarray:
    """An RGB image → uint8[size, size, 3]. mean: of the border that 'pad' lays around it. Raises as `check`."""
    if aspect_ratio == "squash":
        return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), np.uint8)
    return center_crop(pad_to_square(image, mean) if aspect_ratio == "pad" else image, size)


def check(shape: tuple[int, int], size: int, aspect_ratio: str) -> None:
    """Raises `BadRow` for an extremely thin image that would become huge on its way to the square."""
    if aspect_ratio == "crop":
        resized_shape(shape, size)
    elif aspect_ratio == "pad":
        _check_side(shape)


def center_crop(image: Image.Image, size: int) -> np.ndarray:
    """Resize the shorter edge to `size` (bicubic, on uint8), then crop the centre: uint8[size, size, 3].

    Raises `BadRow` when an extremely thin image would become huge.
    """
    target = resized_shape(image.size, size)
    if target != image.size:
        image = image.resize(target, Image.Resampling.BICUBIC)
    return crop_center(np.asarray(image, np.uint8), size)


def resized_shape(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """Width and height once the shorter edge is `size`; the longer one is rounded down. Raises `BadRow`."""
    width, height = shape
    longer = int(size * max(shape) / min(shape))
    if longer * size > MAX_PIXELS:
        raise BadRow("image_too_large", f"{width}x{height} pixels become {longer}x{size} before the crop")
    return (size, longer) if width <= height else (longer, size)


def crop_center(pixels: np.ndarray, size: int) -> np.ndarray:
    """Cut the centre `[size, size, C]` out of `[h, w, C]`; an image too small gets a zero border."""
    height, width = pixels.shape[:2]
    top, left = (height - size) // 2, (width - size) // 2
    cut = pixels[max(top, 0) : top + size, max(left, 0) : left + size]
    if cut.shape[:2] == (size, size):
        return np.ascontiguousarray(cut)
    out = np.zeros((size, size, *pixels.shape[2:]), pixels.dtype)
    y, x = max(-top, 0), max(-left, 0)  # rounded so that the upper and left border is the wider one
    out[y : y + cut.shape[0], x : x + cut.shape[1]] = cut
    return out


def pad_to_square(image: Image.Image, mean: tuple[float, float, float] = CLIP_MEAN) -> Image.Image:
    """Centre an RGB image on a square filled with int(255·mean): (122, 116, 104) for CLIP.

    Raises `BadRow` when an extremely thin image would become huge.
    """
    width, height = image.size
    if width == height:
        return image
    side = _check_side(image.size)
    square = Image.new("RGB", (side, side), tuple(int(255 * m) for m in mean))
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def _check_side(shape: tuple[int, int]) -> int:
    """The side of the square around an image."""
    side = max(shape)
    if side * side > MAX_PIXELS:
        raise BadRow("image_too_large", f"{shape[0]}x{shape[1]} pixels become {side}x{side} on a square")
    return side
