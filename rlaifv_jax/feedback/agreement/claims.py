"""Score sets of several labelers → what each says of every claim, once it is sure that the claims are the same."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from rlaifv_jax.data.tables import open_table
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.fields import Record, find, owner_of, shortly
from rlaifv_jax.feedback.rules import WORDS, accepts, yes_chance
from rlaifv_jax.records.shards import records_per_second
from rlaifv_jax.records.source import Input

IDENTITY = ("question_id", "ds_question_id", "origin_question", "origin_answer", "claim")
TRUE, FALSE = (True, 1, "yes", "true"), (False, 0, "no", "false")  # in a file of labels


@dataclass(frozen=True)
class Labeler:
    """name: as short as tells it from the others. path: of its score set. speed: claims a second, None for unknown."""

    name: str
    path: str
    speed: float | None


@dataclass(frozen=True)
class Judgements:
    """chances: float64[labelers, claims], P(yes) of yes and no together, nan where there is no verdict. accepted:
    bool[labelers, claims]. truth: int8[claims], 1 true, 0 false, -1 unknown; None where nothing is known of any."""

    labelers: tuple[Labeler, ...]
    chances: np.ndarray
    accepted: np.ndarray
    truth: np.ndarray | None

    @property
    def judged(self) -> np.ndarray:
        """bool[labelers, claims]: where there is a verdict."""
        return ~np.isnan(self.chances)


def identity(record: Record) -> dict[str, Any]:
    """What a verdict is about, by the names of IDENTITY."""
    found = {name: find(record, name) for name in IDENTITY[:-1]}
    claim = find(record, "origin_fact")
    return found | {"claim": record.get("raw_question") if claim is None else claim}


def read(paths: Sequence[str], truth: str = "") -> Judgements:
    """Read score sets of the same claims. truth: file of labels, see `read_truth`.

    Raises:
      UserError: they are about different claims, or a record is no verdict.
    """
    if len(paths) < 2 - bool(truth):
        raise UserError("give two or more directories that the score stage has written (or one, and --truth)")
    sources = [Input(path, owner_of, 1000) for path in paths]
    labels = read_truth(truth) if truth else {}
    chances: list[list[float]] = []
    accepted: list[list[bool]] = []
    known: list[int] = []
    models: list[str] = [""] * len(paths)
    used = set()
    for row, records in enumerate(zip_longest(*sources)):
        first = _same(paths, row, records)
        key = (str(first["question_id"]), str(first["claim"]))
        used.add(key)
        known.append(labels.get(key, -1))
        found = [_chance(record, path, row) for record, path in zip(records, paths, strict=True)]
        chances.append(found)
        accepted.append([value == value and accepts(r["scores"]) for value, r in zip(found, records, strict=True)])
        models = [model or str(record.get("model_path", "")) for model, record in zip(models, records, strict=True)]
    if spare := next((key for key in labels if key not in used), None):
        raise UserError(
            f"{truth}: question_id {spare[0]}, claim {shortly(spare[1])} is not among the claims; "
            "leave it out, or give the set that has it"
        )
    names = _names(models, paths)
    return Judgements(
        tuple(
            Labeler(name, path, records_per_second(path) if Path(path).is_dir() else None)
            for name, path in zip(names, paths, strict=True)
        ),
        np.array(chances, np.float64).T,
        np.array(accepted, bool).T,
        np.array(known, np.int8) if truth else None,
    )


def records_at(path: str, rows: Sequence[int]) -> Iterator[Record]:
    """The records of a score set at these rows, in the order of the set."""
    wanted = set(rows)
    return (record for row, record in enumerate(Input(path, owner_of, 1000)) if row in wanted)


def read_truth(file: str) -> dict[tuple[str, str], int]:
    """Labels of claims: records with `question_id`, `claim` and `truth`, which is true or false, yes or no, 1 or 0.

    Raises `UserError` for a record that is none, or two about a claim that contradict each other.
    """
    table, labels = open_table(file), dict[tuple[str, str], int]()
    for row in range(len(table)):
        record = table.row(row)
        value = record.get("truth")
        value = value.strip().lower() if isinstance(value, str) else value
        if "question_id" not in record or not isinstance(record.get("claim"), str) or value not in (*TRUE, *FALSE):
            raise UserError(f"{file}, row {row}: question_id, claim (a text) and truth (true or false) are needed")
        key = (str(record["question_id"]), record["claim"])
        if labels.setdefault(key, int(value in TRUE)) != int(value in TRUE):
            raise UserError(
                f"{file}, row {row}: the claim {shortly(key[1])} is labelled before, in the other way; leave one out"
            )
    if not labels:
        raise UserError(f"{file} holds no labels; give a line for each")
    return labels


def _same(paths: Sequence[str], row: int, records: Sequence[Record | None]) -> dict[str, Any]:
    """What all records are about. Raises `UserError` where that differs."""
    if None in records:
        short = paths[records.index(None)]
        other, record = next((path, r) for path, r in zip(paths, records, strict=True) if r is not None)
        claim = identity(record)["claim"]
        raise UserError(
            f"{short} has {row} claims and {other} more; the first that it lacks is {shortly(claim)}; "
            "give sets of the same claims"
        )
    first, *others = [identity(record) for record in records if record is not None]
    for path, found in zip(paths[1:], others, strict=True):
        for name in IDENTITY:
            if str(found[name]) != str(first[name]):
                raise UserError(
                    f"{paths[0]} and {path} are not about the same claims: record {row} has {name} "
                    f"{shortly(first[name])} there and {shortly(found[name])} here"
                )
    return first


def _chance(record: Record, path: str, row: int) -> float:
    """See `yes_chance`; nan for an error, too."""
    if record.get("error"):
        return float("nan")
    scores = record.get("scores")
    if not isinstance(scores, Mapping) or not all(isinstance(scores.get(word), int | float) for word in WORDS):
        raise UserError(f"{path}, record {row}: has scores {shortly(scores)}, those of {', '.join(WORDS)} are needed")
    return yes_chance(scores)


def _names(models: Sequence[str], paths: Sequence[str]) -> list[str]:
    """The models' own names where these differ; paths otherwise."""
    for names in ([Path(model).name for model in models], list(models)):
        if all(names) and len(set(names)) == len(names):
            return names
    return list(paths)
