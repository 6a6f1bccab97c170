"""A picture to look at: held-out scenes with their captions before and after, false sentences crossed out."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from rlaifv_jax.shapes.captions import error_kind, parse
from rlaifv_jax.shapes.datasets import HeldOut

SIDE, LINE, TEXT_WIDTH, MARGIN = 144, 21, 360, 20  # pixels
INK, FALSE = (40, 40, 40), (200, 20, 20)


def draw_examples(file: Path, examples: Sequence[HeldOut], columns: Sequence[tuple[str, Sequence[str]]]) -> None:
    """A row for each example: its picture, then its caption in every column (title, captions).

    A sentence that is not true of the scene is red and crossed out.
    """
    height = SIDE + 2 * MARGIN
    width = SIDE + 2 * MARGIN + len(columns) * (TEXT_WIDTH + MARGIN)
    canvas = Image.new("RGB", (width, 2 * LINE + MARGIN + height * len(examples)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=15)
    for column, (title, _) in enumerate(columns):
        draw.text((_left(column), MARGIN), title, INK, ImageFont.load_default(size=18))
    for row, example in enumerate(examples):
        top = 2 * LINE + MARGIN + row * height
        canvas.paste(example.image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (MARGIN, top))
        for column, (_, captions) in enumerate(columns):
            for line, said in enumerate(filter(None, map(str.strip, captions[row].split(".")))):
                claims = parse(said).claims
                true = bool(claims) and claims[0] in example.scene
                start = (_left(column), top + line * LINE)
                draw.text(start, f"{said}.", INK if true else FALSE, font)
                if not true:
                    left, upper, right, lower = draw.textbbox(start, f"{said}.", font)
                    draw.line((left, (upper + lower) // 2, right, (upper + lower) // 2), FALSE)
    canvas.save(file)


def choose_examples(examples: Sequence[HeldOut], captions: Sequence[str], count: int = 4) -> list[int]:
    """Which examples to show: captions with different kinds of errors first, those without any last."""
    kinds = [
        frozenset(error_kind(example.scene, claim) for claim in parse(caption).claims) - {None}
        for example, caption in zip(examples, captions, strict=True)
    ]
    first_of_kind = [k for k, errors in enumerate(kinds) if errors and errors not in kinds[:k]]
    others = sorted(set(range(len(kinds))) - set(first_of_kind), key=lambda k: not kinds[k])
    return sorted([*first_of_kind, *others][:count])


def _left(column: int) -> int:
    return SIDE + 2 * MARGIN + column * (TEXT_WIDTH + MARGIN)
