"""Encoded examples into the arrays of a `Batch`, with NumPy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaifv_jax.data.batch import IMAGE_TOKEN, Batch
from rlaifv_jax.data.encode import Encoded
from rlaifv_jax.data.tiles import Tile, Tiles


@dataclass(frozen=True)
class RowShape:
    """Fixed sizes of a row: the model step is compiled once for them."""

    row_length: int  # T
    targets: int  # R
    tile: Tile  # P is its tokens
    images: int = 1  # I, tiles
    pairs: int = 1  # S


@dataclass(frozen=True)
class Item:
    """An example ready to be placed: its tokens, the tiles of its image, per answer float32[targets] log-probs under
    the reference model, and weights (none: every target counts 1)."""

    encoded: Encoded
    image: Tiles | None = None
    reference: Sequence[np.ndarray] | None = None
    weights: Sequence[np.ndarray] | None = None


def empty_batch(count: int, shape: RowShape) -> Batch:
    """`count` rows of padding, leaves `[count, …]`."""
    tokens = (count, shape.row_length)
    targets = (count, shape.targets)
    return Batch(
        tokens=np.zeros(tokens, np.int32),
        positions=np.zeros(tokens, np.int32),
        segments=np.zeros(tokens, np.int32),
        branches=np.zeros(tokens, np.int32),
        patches=np.full(tokens, -1, np.int32),
        images=np.zeros((count, shape.images, *shape.tile.shape), np.uint8),
        grids=np.zeros((count, shape.images, 2), np.int32),
        sources=np.zeros(targets, np.int32),
        targets=np.zeros(targets, np.int32),
        weights=np.zeros(targets, np.float32),
        owners=np.zeros(targets, np.int32),
        reference=np.zeros(targets, np.float32),
        pairs=np.zeros((count, shape.pairs), np.float32),
    )


def build_rows(rows: Sequence[Sequence[Item]], shape: RowShape) -> Batch:
    """Lay out one batch row per list of items (none: an empty row). Leaves `[len(rows), …]`.

    Raises `ValueError` when a row's items do not fit the shape.
    """
    batch = empty_batch(len(rows), shape)
    for number, items in enumerate(rows):
        fill_row(batch, number, items, shape)
    return batch


def fill_row(batch: Batch, row: int, items: Sequence[Item], shape: RowShape) -> None:
    """Write `items` one after the other into row `row` of `batch`, as segments 1, 2, …"""
    start = target = image = 0
    for pair, item in enumerate(items):
        encoded = item.encoded
        needed = (start + encoded.row_length, target + encoded.target_count, pair + 1)
        if any(need > room for need, room in zip(needed, (shape.row_length, shape.targets, shape.pairs), strict=True)):
            raise ValueError(
                f"a row needs {needed[0]} positions, {needed[1]} targets and {needed[2]} pairs, and has "
                f"{shape.row_length}, {shape.targets} and {shape.pairs}"
            )
        if (0 if item.image is None else len(item.image.pixels)) != encoded.tiles:
            raise ValueError("tokens and pixels disagree on how many tiles there are")
        if item.image is not None:
            stop = image + encoded.tiles
            if stop > shape.images:
                raise ValueError(f"a row holds more than {shape.images} tiles")
            batch.images[row, image:stop], batch.grids[row, image:stop] = item.image
        _fill_prefix(batch, row, start, encoded, image * shape.tile.tokens)
        image += encoded.tiles
        prefix_end = start + encoded.prefix_length
        batch.segments[row, start : start + encoded.row_length] = pair + 1
        batch.pairs[row, pair] = 1
        cursor = prefix_end
        for number, answer in enumerate(encoded.answers):
            length = len(answer.tokens)
            place = slice(cursor, cursor + length)
            batch.tokens[row, place] = answer.tokens
            batch.branches[row, place] = number + 1
            batch.positions[row, place] = encoded.prefix_length + np.arange(length)
            # The token before predicts; for the first token of a branch that is the end of the shared prefix.
            source = np.arange(cursor - 1, cursor + length - 1)
            source[0] = prefix_end - 1
            count = int(answer.labels.sum())
            slots = slice(target, target + count)
            batch.sources[row, slots] = source[answer.labels]
            batch.targets[row, slots] = answer.tokens[answer.labels]
            batch.weights[row, slots] = 1 if item.weights is None else _checked(item.weights[number], count, "weights")
            batch.owners[row, slots] = 2 * pair + number
            if item.reference is not None:
                batch.reference[row, slots] = _checked(item.reference[number], count, "reference log-probs")
            target += count
            cursor += length
        start = cursor


def _fill_prefix(batch: Batch, row: int, start: int, encoded: Encoded, first_patch: int) -> None:
    """first_patch: number, among the features of the row, of the first that belongs to the image."""
    place = slice(start, start + encoded.prefix_length)
    batch.positions[row, place] = np.arange(encoded.prefix_length)
    spread = np.repeat(encoded.prefix, encoded.widths)
    here = spread == IMAGE_TOKEN
    batch.tokens[row, place] = np.where(here, 0, spread)
    if encoded.picture:
        places = np.concatenate(encoded.picture.places)
        batch.patches[row, place][here] = np.where(places >= 0, first_patch + places, places)


def _checked(values: np.ndarray, count: int, what: str) -> np.ndarray:
    if len(values) != count:
        raise ValueError(f"{len(values)} {what} for {count} answer tokens")
    return values
