"""Groups laid out for a model: which branches share a row, which rows a call, and what comes back where.

A group is a prefix (an image, the beginning of a question) and any number of branches (questions about it, answers to
it). They stand in rows as in training, so the prefix is computed once for all its branches: see rlaifv_jax.data.batch.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rlaifv_jax.data.batch import Batch
from rlaifv_jax.data.encode import Encoded
from rlaifv_jax.data.packing import Sizes, best_fit
from rlaifv_jax.data.rows import Item, RowShape, build_rows
from rlaifv_jax.data.tiles import Tile, Tiles
from rlaifv_jax.sampling.capacity import rung, slot_length

TOKENS_AT_ONCE = 8192  # positions of a call, for each part of the mesh that has rows of its own
LEAST = 8  # places of a row that are read; more come in powers of two, so that there are few programs


@dataclass(frozen=True)
class Piece:
    """Branches `first` … `stop`-1 of a group, which share a row."""

    group: int
    first: int
    stop: int


@dataclass(frozen=True)
class Call:
    """One call of the model. shape: of its rows. rows: the pieces in each, some rows may be empty."""

    shape: RowShape
    rows: tuple[tuple[Piece, ...], ...]

    @property
    def groups(self) -> set[int]:
        return {piece.group for row in self.rows for piece in row}


@dataclass(frozen=True)
class Place:
    """Of a branch: its group and number there, its row in a call, and which of the row's readings are its own."""

    group: int
    branch: int
    row: int
    start: int
    count: int


def plan(groups: Sequence[Encoded], tile: Tile, unit: int, *, row_length: int, longest_row: int) -> list[Call]:
    """Calls for all groups, in the order of their first groups.

    Args:
      tile: of the model's pictures.
      unit: parts of the mesh that have rows of their own.
      row_length: positions of a row that several groups share; 0: a row for each group.
      longest_row: positions beyond which the branches of a group go to several rows, with the prefix in each.
    """
    pieces = [piece for number, group in enumerate(groups) for piece in _cut(number, group, row_length or longest_row)]
    tokens = np.array([_positions(groups[p.group], p) for p in pieces], np.int64)
    counts = np.array([_readings(groups[p.group], p) for p in pieces], np.int64)
    images = np.array([groups[p.group].tiles for p in pieces], np.int64)
    if row_length:
        most = RowShape(row_length, row_length, tile, images=row_length, pairs=row_length)
        fitting = np.flatnonzero(tokens <= row_length)
        rows = best_fit(Sizes(tokens, counts, images), fitting, most)
        rows += [[int(place)] for place in np.flatnonzero(tokens > row_length)]
    else:
        rows = [[place] for place in range(len(pieces))]
    rows = sorted((sorted(row) for row in rows), key=lambda row: row[0])
    lengths: dict[int, list[list[int]]] = {}
    for row in rows:
        needed = int(tokens[row].sum())
        lengths.setdefault(max(row_length, slot_length(needed)), []).append(row)
    calls = []
    for length, members in lengths.items():
        at_once = max(TOKENS_AT_ONCE // length, 1) * unit
        shape = RowShape(
            row_length=length,
            targets=_power(max(int(counts[row].sum()) for row in members), LEAST),
            tile=tile,
            images=rung(max(int(images[row].sum()) for row in members)),
            pairs=_power(max(map(len, members)), 1),
        )
        for start in range(0, len(members), at_once):
            part = members[start : start + at_once]
            filled = [tuple(pieces[place] for place in row) for row in part]
            calls.append(Call(shape, (*filled, *((),) * (at_once - len(part)))))
    return sorted(calls, key=lambda call: min(call.groups))


def _cut(number: int, group: Encoded, limit: int) -> Iterator[Piece]:
    first, used = 0, group.prefix_length
    for branch, answer in enumerate(group.answers):
        if branch > first and used + len(answer.tokens) > limit:
            yield Piece(number, first, branch)
            first, used = branch, group.prefix_length
        used += len(answer.tokens)
    if first < len(group.answers):
        yield Piece(number, first, len(group.answers))


def _positions(group: Encoded, piece: Piece) -> int:
    return group.prefix_length + sum(len(answer.tokens) for answer in group.answers[piece.first : piece.stop])


def _readings(group: Encoded, piece: Piece) -> int:
    """Places that are read: the labelled tokens of every branch, of one without any its end."""
    return sum(_reads(answer) for answer in group.answers[piece.first : piece.stop])


def _reads(answer: Any) -> int:
    return int(answer.labels.sum()) or 1


def _power(count: int, least: int) -> int:
    return max(least, 1 << max(count - 1, 0).bit_length()) if count else 0


def build(call: Call, groups: Sequence[Encoded], images: Callable[[int], Tiles | None]) -> tuple[Batch, list[Place]]:
    """The batch of a call, and where in what comes back each branch stands.

    Branches without labels are read at their last tokens (sources point there), those with labels where these are
    predicted. All of a call are of one kind.

    Args:
      images: of a group. A group whose picture is missing (None) though it needs one is left out.
    """
    rows: list[list[Item]] = []
    places: list[Place] = []
    ends: list[tuple[int, int, int]] = []  # row, place among its readings, position
    for row, pieces in enumerate(call.rows):
        items: list[Item] = []
        start = reading = 0
        for piece in pieces:
            group = groups[piece.group]
            tiles = images(piece.group)
            if tiles is None and group.picture:
                continue
            part = replace(group, answers=group.answers[piece.first : piece.stop], truncated=())
            items.append(Item(part, tiles))
            cursor = start + group.prefix_length
            for number, answer in enumerate(part.answers):
                cursor += len(answer.tokens)
                count = _reads(answer)
                places.append(Place(piece.group, piece.first + number, row, reading, count))
                if not answer.labels.any():
                    ends.append((row, reading, cursor - 1))
                reading += count
            start = cursor
        rows.append(items)
    batch = build_rows(rows, call.shape)
    for row, reading, position in ends:
        batch.sources[row, reading] = position
    return batch, places
