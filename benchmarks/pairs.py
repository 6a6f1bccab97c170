"""Preference pairs of stated lengths with real pictures, in the form that each contender takes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from benchmarks.model import FIRST_WORD, Sizes
from rlaifv_jax.data import images
from rlaifv_jax.data.batch import IMAGE_TOKEN, Batch
from rlaifv_jax.data.encode import Answer, Encoded
from rlaifv_jax.data.rows import Item, RowShape, build_rows
from rlaifv_jax.shapes.scene import encode_png, render, sample_scene

PHOTOS = Path("../shared/data/photos")
SHORTEST = 8  # tokens of an answer


@dataclass(frozen=True)
class Lengths:
    """Text tokens of a prompt, and mean and standard deviation of an answer's tokens, end token included.

    The default means are about those of openbmb/RLAIF-V-Dataset, whose answers spread twice as much; lengths are
    normal, SHORTEST at least.
    """

    prompt: int = 60
    answer: float = 75.0
    spread: float = 25.0


@dataclass(frozen=True)
class Pair:
    """A picture file, a prompt with IMAGE_TOKEN once, and a chosen and a rejected answer, int32 token ids."""

    picture: bytes
    prompt: np.ndarray
    answers: tuple[np.ndarray, np.ndarray]


def make_pairs(count: int, sizes: Sizes, lengths: Lengths, photos: Path, seed: int = 0) -> list[Pair]:
    """`count` pairs: uniformly drawn tokens, the given pictures in turn."""
    rng = np.random.default_rng(seed)
    files = pictures(photos, count)
    pairs = []
    for number, answers in enumerate(answer_lengths(count, rng, lengths)):
        prompt, chosen, rejected = (
            rng.integers(FIRST_WORD, sizes.image_token, length).astype(np.int32)
            for length in (lengths.prompt, *answers)
        )
        prompt = np.insert(prompt, lengths.prompt // 2, IMAGE_TOKEN)
        pairs.append(Pair(files[number % len(files)], prompt, (chosen, rejected)))
    return pairs


def answer_lengths(count: int, rng: np.random.Generator, lengths: Lengths = Lengths()) -> np.ndarray:
    """Tokens of chosen and rejected answers: int[count, 2]."""
    return np.maximum(rng.normal(lengths.answer, lengths.spread, (count, 2)).round(), SHORTEST).astype(int)


def pictures(photos: Path, count: int) -> list[bytes]:
    """JPEG files below `photos`, in order of their names; rendered scenes where there are none."""
    files = sorted(photos.glob("**/*.jpg"))
    if files:
        return [file.read_bytes() for file in files]
    rng = np.random.default_rng(0)
    return [encode_png(render(sample_scene(rng), rng, pixels=480)) for _ in range(count)]


def kind_of_pictures(photos: Path) -> str:
    """What `pictures` would return."""
    return "photographs" if any(photos.glob("**/*.jpg")) else "rendered"


def items(pairs: Sequence[Pair], sizes: Sizes) -> list[Item]:
    """As this project's encoder and image pipeline hand them on."""
    return [
        Item(
            Encoded(
                pair.prompt,
                tuple(Answer(tokens, np.ones(len(tokens), bool)) for tokens in pair.answers),
                (False, False),
                sizes.square.uniform,
            ),
            sizes.square.cut(images.decode(pair.picture)),
        )
        for pair in pairs
    ]


def normalized(pairs: Sequence[Pair], sizes: Sizes) -> torch.Tensor:
    """The pictures by transformers' own CLIP processor: float32[N, 3, size, size]."""
    pictures = [Image.open(io.BytesIO(pair.picture)).convert("RGB") for pair in pairs]
    return image_processor(sizes)(pictures, return_tensors="pt")["pixel_values"]


def image_processor(sizes: Sizes) -> CLIPImageProcessorPil:
    """With CLIP's statistics: shorter edge to the model's size (bicubic), then the centre."""
    size = sizes.image_size
    return CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})


def shared_rows(items: Sequence[Item], sizes: Sizes, per_row: int) -> Batch:
    """Shared-prefix rows, leaves `[1, B, …]`, as long as the longest of them needs."""
    rows = [items[start : start + per_row] for start in range(0, len(items), per_row)]
    shape = RowShape(
        row_length=max(sum(item.encoded.row_length for item in row) for row in rows),
        targets=max(sum(item.encoded.target_count for item in row) for row in rows),
        tile=sizes.square.tile,
        images=per_row,
        pairs=per_row,
    )
    return Batch(*(leaf[None] for leaf in build_rows(rows, shape)))
