"""Pixels equal transformers' CLIP and LLaVA image processors (PIL backend) on both roads to the square."""

import io

import numpy as np
import pytest
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from rlaifv_jax.data import images
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.models.hf_config import CLIP_MEAN, CLIP_STD
from rlaifv_jax.models.seeing import normalize

SIZE = 56
SHAPES = [(56, 56), (97, 61), (61, 97), (200, 57), (57, 301), (30, 20), (333, 500), (1, 3)]


def picture(width, height, mode="RGB", seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 4), np.uint8)
    return Image.fromarray(noise, "RGBA").convert(mode)


def encoded(image, form="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def normalized(pixels):
    """What the model makes of the pixels that a batch holds."""
    return np.asarray(normalize(pixels, CLIP_MEAN, CLIP_STD))


def processor(kind):
    return kind(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})


@pytest.mark.parametrize("shape", SHAPES)
def test_centre_crop_equals_clip(shape):
    image = picture(*shape)
    theirs = processor(CLIPImageProcessorPil)(image, return_tensors="np")["pixel_values"][0]
    ours = normalized(images.center_crop(image, SIZE)).transpose(2, 0, 1)
    np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_padded_square_equals_llava(shape):
    image = picture(*shape)
    padded = processor(LlavaImageProcessorPil)
    padded.do_pad = True
    theirs = padded(image, return_tensors="np", do_pad=True)["pixel_values"][0]
    ours = normalized(images.center_crop(images.pad_to_square(image), SIZE)).transpose(2, 0, 1)
    np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_every_mode_becomes_the_originals_rgb(mode):
    """The original converts to RGB itself, before the processor sees the image."""
    image = picture(97, 61, mode)
    data = encoded(image, "TIFF" if mode == "CMYK" else "PNG")
    rgb = Image.open(io.BytesIO(data)).convert("RGB")
    theirs = processor(CLIPImageProcessorPil)(rgb, return_tensors="np")
    ours = normalized(images.center_crop(images.decode(data), SIZE)).transpose(2, 0, 1)
    np.testing.assert_allclose(ours, theirs["pixel_values"][0], atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", [(20, 30), (80, 30), (31, 57), (55, 101)])
def test_a_crop_larger_than_the_image(shape):
    pixels = np.asarray(picture(*shape))
    clip = processor(CLIPImageProcessorPil)
    theirs = clip(Image.fromarray(pixels), do_resize=False, do_rescale=False, do_normalize=False)
    theirs = np.asarray(theirs["pixel_values"][0]).transpose(1, 2, 0)
    np.testing.assert_array_equal(images.crop_center(pixels, SIZE), theirs)


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_broken_images(form):
    data = encoded(picture(97, 61), form)
    assert images.decode(data).size == (97, 61)
    for broken in (b"", b"not an image", data[: len(data) // 2], data[:20]):
        with pytest.raises(BadRow, match="image_undecodable"):
            images.decode(broken)


def test_huge_images_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 97 * 61 - 1)
    with pytest.raises(BadRow, match="image_too_large"):
        images.decode(encoded(picture(97, 61)))
    with pytest.raises(BadRow, match="image_too_large"):
        images.center_crop(picture(1, 40), SIZE)  # would be 56 x 2240


def test_a_thin_image_is_refused_before_it_becomes_a_square():
    with pytest.raises(BadRow, match="1x20000 pixels become 20000x20000 on a square"):
        images.pad_to_square(Image.new("RGB", (1, 20000)))


def test_scripted_formats_are_not_opened():
    with pytest.raises(BadRow, match="image_undecodable"):
        images.decode(encoded(picture(20, 20), "EPS"))
