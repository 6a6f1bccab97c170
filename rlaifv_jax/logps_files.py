"""Log-probabilities of the reference model on disk: written once, checked before they are used.

A directory of parquet files in the original's form (muffin/eval/muffin_inference_logp.py of RLAIF-V):
`RLAIF-V-Dataset-withlogp_{shard:03}-{rows}.parquet`, all columns of the data plus a string column `logps`,

    {"logps": [chosen_sum, chosen_mean, [per token …], rejected_sum, rejected_mean, [per token …]]}

The lists hold answer tokens only (the original also stores one meaningless value for every prompt and image
position). What the numbers belong to stands in the file's metadata, key `rlaifv_jax`: the fingerprint of model,
data, template, preprocessing and precision, and the rows of the source that the file holds.

Data in the form of RLHF-V get the six values inside the JSON object of their column `text`, as Muffin has them
(muffin/eval/muffin_inference_logp.py). Its dense DPO multiplies the lists by weights of whole conversations, so zeros
stand there before the answer; how many, in the metadata.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from rlaifv_jax.errors import UserError

METADATA_KEY = b"rlaifv_jax"


@dataclass(frozen=True)
class References:
    """Reference log-probs of many rows, in memory and picklable.

    values: float32[all targets], the targets of a row's answers one after the other. starts: int64[rows + 1, …]
    by place in `rows`; chosen: int64[rows], how many of a row's values belong to its first answer.
    """

    rows: np.ndarray  # int64[n] ascending row numbers of the source
    starts: np.ndarray  # int64[n + 1]
    chosen: np.ndarray  # int64[n]
    values: np.ndarray  # float32[starts[-1]]

    @classmethod
    def pack(cls, rows: Sequence[int] | np.ndarray, answers: Sequence[tuple[np.ndarray, np.ndarray]]) -> "References":
        order = np.argsort(np.asarray(rows, np.int64))
        answers = [answers[place] for place in order]
        lengths = [len(chosen) + len(rejected) for chosen, rejected in answers]
        values = [np.asarray(part, np.float32) for pair in answers for part in pair]
        return cls(
            np.asarray(rows, np.int64)[order],
            np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            np.array([len(chosen) for chosen, _ in answers], np.int64),
            np.concatenate(values) if values else np.zeros(0, np.float32),
        )

    def check(self, rows: np.ndarray, counts: np.ndarray, where: Any) -> None:
        """See that all of `rows` int64[n] are there, with `counts` int64[n, 2] finite values.

        Raises:
          UserError: names the first row that is not as it should be.
        """
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        lengths = np.stack([self.chosen, np.diff(self.starts) - self.chosen], axis=1)
        finite = np.add.reduceat(~np.isfinite(self.values), self.starts[:-1]) == 0
        good = (self.rows[places] == rows) & (lengths[places] == counts).all(axis=1) & finite[places]
        if not good.all():
            row = rows[np.flatnonzero(~good)[0]]
            raise UserError(
                f"reference log-probs in {where}: those of row {row} (and {int((~good).sum()) - 1} more) are missing, "
                "not finite or not as many as its answers have tokens; delete them to compute them anew"
            )

    def per_target(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """(chosen, rejected) log-probs of a source row's answer tokens, float32[n] each."""
        place = int(np.searchsorted(self.rows, row))
        if place == len(self.rows) or self.rows[place] != row:
            raise KeyError(f"no reference log-probs for row {row}")
        start, stop = self.starts[place], self.starts[place + 1]
        middle = start + self.chosen[place]
        return self.values[start:middle], self.values[middle:stop]


def next_number(shards: Sequence["Shard"]) -> int:
    """A number that no file has yet, also where some were deleted."""
    return max((int(shard.path.name.split("_")[1].split("-")[0]) for shard in shards), default=-1) + 1


def shard_name(shard: int, rows: int) -> str:
    return f"RLAIF-V-Dataset-withlogp_{shard:03}-{rows}.parquet"


def six_values(chosen: np.ndarray, rejected: np.ndarray) -> list[Any]:
    """What the original stores of a row; sums and means in float64 of float32 values."""
    entry: list[Any] = []
    for values in (chosen, rejected):
        exact = [float(value) for value in np.asarray(values, np.float32)]
        entry += [sum(exact), sum(exact) / max(len(exact), 1), exact]
    return entry


def add_column(table: pa.Table, entries: Sequence[list[Any]]) -> pa.Table:
    """`table` with a column `logps`."""
    column = pa.array([json.dumps({"logps": entry}) for entry in entries], pa.string())
    return _without(table).append_column("logps", column)


def _without(table: pa.Table) -> pa.Table:
    """The table without log-probs of somebody else."""
    return table.drop_columns(["logps"]) if "logps" in table.column_names else table


def add_to_text(table: pa.Table, entries: Sequence[list[Any]], before: Sequence[int]) -> pa.Table:
    """`table` with `logps` in the JSON objects of its column `text`, behind question, chosen and rejected.

    before: zeros to put before the values of both answers.
    """
    table, texts = _without(table), []
    for text, entry, count in zip(table["text"].to_pylist(), entries, before, strict=True):
        known, zeros = json.loads(text), [0.0] * count
        parts = {name: known.get(name) or "" for name in ("question", "chosen", "rejected")}
        parts["logps"] = [*entry[:2], zeros + entry[2], *entry[3:5], zeros + entry[5]]
        parts = parts | known | parts  # what else there was comes behind
        texts.append(json.dumps(parts))
    return table.set_column(table.column_names.index("text"), "text", pa.array(texts, pa.string()))


def write_shard(
    path: epath.Path,
    table: pa.Table,
    rows: Sequence[int] | np.ndarray,
    fingerprint: dict[str, str],
    before: Sequence[int] | None = None,
) -> None:
    """Write the source rows `rows`, `table` with their log-probs; the file appears whole or not at all.

    before: for log-probs inside `text`, the zeros before each row's values.
    """
    facts = {"fingerprint": fingerprint, "rows": [int(row) for row in rows]}
    about = json.dumps(facts if before is None else facts | {"before": [int(count) for count in before]})
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), METADATA_KEY: about})
    part = path.with_name(path.name + ".part")
    with part.open("wb") as stream:
        pq.write_table(table, stream)
    part.replace(path)


@dataclass(frozen=True)
class Shard:
    """A finished file of ours: its fingerprint, the source rows in it and, where log-probs stand inside `text`, the
    number of zeros before them."""

    path: epath.Path
    fingerprint: dict[str, str]
    rows: list[int]
    before: list[int] | None


def _damaged(path: epath.Path, error: Exception) -> UserError:
    return UserError(f"reference.path: {path} is damaged ({error}); delete it to compute it anew")


def find_shards(directory: epath.Path) -> list[Shard]:
    """Finished files in `directory`.

    Raises:
      UserError: a file that is damaged, or that this project did not write.
    """
    shards = []
    for path in sorted(directory.glob("*.parquet")) if directory.exists() else []:
        try:
            with path.open("rb") as stream:
                metadata = pq.read_schema(stream).metadata or {}
            if METADATA_KEY not in metadata:
                raise UserError(
                    f"reference.path: {path} was not written by this project. To use log-probs of the original code, "
                    "give that directory as data.path (they lie in its column `logps`) and leave reference.path empty."
                )
            about = json.loads(metadata[METADATA_KEY])
            shards.append(Shard(path, about["fingerprint"], about["rows"], about.get("before")))
        except (pa.ArrowInvalid, OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(path, error) from None
    return shards


def check(found: dict[str, str], wanted: dict[str, str], where: Any) -> None:
    """Refuse log-probs that belong to something else.

    Raises:
      UserError: names the parts that differ.
    """
    parts = [part for part in wanted if found.get(part) != wanted[part]]
    if parts:
        raise UserError(
            f"reference log-probs in {where} belong to another {', another '.join(parts)}. Delete that directory "
            "to compute them anew, choose another reference.path, or set --config.reference.trust to use them."
        )


def read(shards: Sequence[Shard]) -> References:
    """Load the log-probs of finished files."""
    rows: list[int] = []
    answers: list[tuple[np.ndarray, np.ndarray]] = []
    for shard in shards:
        try:
            with shard.path.open("rb") as stream:
                column = "logps" if shard.before is None else "text"
                texts = pq.read_table(stream, columns=[column]).column(column).to_pylist()
            if len(texts) != len(shard.rows):
                raise ValueError(f"{len(texts)} rows instead of {len(shard.rows)}")
            for text, start in zip(texts, shard.before or [0] * len(texts), strict=True):
                values = json.loads(text)["logps"]
                answers.append((np.array(values[2][start:], np.float32), np.array(values[5][start:], np.float32)))
        except (pa.ArrowInvalid, OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise _damaged(shard.path, error) from None
        rows += shard.rows
    return References.pack(rows, answers)
