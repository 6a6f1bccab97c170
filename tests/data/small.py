"""A small JSONL source with images beside it, good and bad rows, for the tests of index and loader."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from rlaifv_jax.data.encode import Encoder
from rlaifv_jax.data.schema import Source, open_source
from rlaifv_jax.data.square import Square
from rlaifv_jax.data.templates import TEMPLATES
from rlaifv_jax.data.tokenizer import load_tokenizer

PATCHES = 4
SIZE = 8
SQUARE = Square.of(SIZE, PATCHES)


def encoder(tokenizer_dir: Path, objective: str = "dpo", max_length: int = 512) -> Encoder:
    """The real encoder on the tokenizer trained for the tests."""
    return Encoder(load_tokenizer(tokenizer_dir), TEMPLATES["llava_v1"], SQUARE, max_length, objective)


def good_rows(count: int) -> list[dict]:
    """Rows whose every part differs from all others'."""
    return [
        {
            "idx": f"id{n}",
            "image": f"img/{n}.png" if n % 5 else None,  # every fifth has no image
            "question": f"What is {n}?",
            "chosen": f"It is {n}." * (1 + n % 3),
            "rejected": f"Not {n}.",
        }
        for n in range(count)
    ]


def write(folder: Path, rows: list[dict]) -> str:
    """Write `rows` and one image each; returns the path of the JSONL file."""
    (folder / "img").mkdir(parents=True, exist_ok=True)
    for number in range(len(rows)):
        pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"img/{number}.png")
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def source(folder: Path, count: int = 11) -> Source:
    """An opened source of `count` good rows."""
    return open_source(write(folder, good_rows(count)))
