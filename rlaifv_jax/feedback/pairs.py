"""Answers with claims and the labeler's feedback on them → preference pairs as training reads them.

DIR/00000.parquet, …    RLAIF-V schema with pictures inside, and `org_infos`: where every pair comes from
DIR/pairs.jsonl         the same in the original's form, without pictures
DIR/report.json         how many answers and pairs every filter left out
DIR/manifest.json       what decided all this; written last
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlaifv_jax import parallel
from rlaifv_jax.cli import say
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.finder import Pictures
from rlaifv_jax.data.texts import is_unicode
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback import balance as balancing
from rlaifv_jax.feedback import judged, rules
from rlaifv_jax.feedback.balance import BALANCES, balance
from rlaifv_jax.feedback.fields import Record, find
from rlaifv_jax.feedback.judged import judge
from rlaifv_jax.feedback.rules import Judged, Pair, Rules, make_pairs
from rlaifv_jax.feedback.stage import notes
from rlaifv_jax.places import entries, is_remote, put, remove_tree, scratch, size
from rlaifv_jax.records.lock import only_run
from rlaifv_jax.records.settings import compare, plain, wait_for, write_whole
from rlaifv_jax.records.shards import MANIFEST
from rlaifv_jax.records.source import Input

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXTS = ("question", "chosen", "rejected", "origin_dataset", "origin_split", "idx", "image_path", "ds_question_id")
SCHEMA = pa.schema(
    [("ds_name", pa.string()), ("image", IMAGE), *((name, pa.string()) for name in (*TEXTS, "org_infos"))]
)
ROWS = 256  # of a row group: so many pictures are in memory at once
PARTIAL = ".partial"  # files that are being written; it tells that a directory is ours until its manifest does
MARK = "ours"  # a file in it


@dataclass(frozen=True)
class Making:
    """rules, balance, tolerance: which pairs are made, see `Rules` and `BALANCES`. name: `ds_name` of their rows.
    shard_rows: most in a file."""

    rules: Rules
    balance: str
    tolerance: float
    name: str
    shard_rows: int

    def __post_init__(self) -> None:
        if self.balance not in BALANCES:
            raise UserError(f"pairs.balance is {self.balance!r}; it can be {', '.join(map(repr, BALANCES))}")
        if not 0 <= self.tolerance < 1:
            raise UserError(f"pairs.tolerance is {self.tolerance}; it must lie in 0 … 1")
        if self.shard_rows < 1:
            raise UserError(f"pairs.shard_rows is {self.shard_rows}; it must be 1 or more")


def make_pair_files(answers: Input, feedback: Input, directory: Path, making: Making, pictures: Pictures) -> None:
    """Make pairs, unless they are there already; the first process does it and the others wait.

    Raises:
      UserError: the directory belongs to other settings or holds something else, or not one pair is left.
    """
    settings = {"stage": "pairs", "answers": answers.fingerprint, "feedback": feedback.fingerprint, **asdict(making)}
    manifest = directory / MANIFEST
    if parallel.is_main():
        with only_run(directory):
            if manifest.exists():
                compare(plain(settings), manifest, directory)
                _check_files(directory, manifest)
                remove_tree(directory / PARTIAL)  # the last thing that a kill can leave
                say(f"pairs: {directory} is complete; nothing to do (remove it to do it again)")
            else:
                _claim(directory)
                for line in _write(answers, feedback, directory, making, pictures):
                    say(f"pairs: {line}")
                about = notes((sys.modules[__name__], judged, rules, balancing))
                whole = {**plain(settings), "files": _sizes(directory), "notes": plain(about)}
                write_whole(manifest, [json.dumps(whole, indent=2)])
                remove_tree(directory / PARTIAL)
    wait_for(manifest.exists, directory)


def _sizes(directory: Path) -> dict[str, int]:
    """Bytes of the files of pairs."""
    return {file.name: size(file) for file in entries(directory) if file.is_file()}


def _check_files(directory: Path, manifest: Path) -> None:
    """See that what was written is still there."""
    there = _sizes(directory)
    for name, count in json.loads(manifest.read_text()).get("files", {}).items():
        if there.get(name) != count:
            raise UserError(f"{directory / name} is not as it was written; remove {directory} to make it anew")


def _claim(directory: Path) -> None:
    """See that a directory is ours to write: new, or left by a kill."""
    partial = directory / PARTIAL
    if entries(directory) and not partial.is_dir():
        raise UserError(f"{directory} holds something else; remove it, or choose another output_dir")
    partial.mkdir(parents=True, exist_ok=True)
    (partial / MARK).write_text("")  # in the cloud a directory is what it holds
    left = (file for file in entries(partial) if file.name != MARK)
    for old in (*left, *directory.glob("*.parquet"), directory / "pairs.jsonl"):
        old.unlink(missing_ok=True)


def _write(answers: Input, feedback: Input, directory: Path, making: Making, pictures: Pictures) -> list[str]:
    """Write all files; returns lines for the person at the terminal."""
    counts = Counter[str]()
    judged = judge(answers, feedback, counts)
    pairs, how = balance(make_pairs(judged, making.rules, counts), making.balance, making.tolerance, counts)
    labeler = find(next(iter(feedback), {}), "model_path")
    rows = _rows(pairs, answers, pictures, {"name": making.name, "labeler": labeler}, counts)
    written = _write_rows(rows, directory, making.shard_rows)
    counts["pairs"] = written
    found = [f"{count} {what}" for what, count in counts.items() if count]
    report = {"counts": dict(counts), "balance": how.about, "ratio": how.ratio, **statistics(pairs)}
    write_whole(directory / "report.json", [json.dumps(report, indent=2) + "\n"])
    if not written:
        raise UserError(f"pairs: not one pair is left: {'; '.join(found)}")
    return [f"{written} pairs; {how.about}", *found[:-1]]


def statistics(pairs: Sequence[Pair]) -> dict[str, float]:
    """Means over pairs: words, claims and rejected claims of both sides."""
    found: dict[str, float] = {}
    for side in ("chosen", "rejected"):
        answers = [getattr(pair, side) for pair in pairs]
        for what, values in (
            ("words", [len(answer.answer.split()) for answer in answers]),
            ("claims", [len(answer.verdicts) for answer in answers]),
            ("claims rejected", [answer.rejected for answer in answers]),
        ):
            found[f"mean {what}, {side}"] = sum(values) / max(len(values), 1)
    return found


def _rows(
    pairs: Sequence[Pair],
    answers: Input,
    pictures: Pictures,
    about: Mapping[str, Any],
    counts: Counter[str],
) -> Iterator[tuple[Record, dict[str, Any]]]:
    """(the original's record, the parquet row) of every pair. about: name of the set, labeler."""
    wanted = {side.row for pair in pairs for side in (pair.chosen, pair.rejected)}
    records = {row: record for row, record in enumerate(answers) if row in wanted}
    for pair in pairs:
        chosen, rejected = (records[side.row] for side in (pair.chosen, pair.rejected))
        record = original_record(pair, chosen, rejected)
        try:
            data = pictures.read(chosen)
        except BadRow:
            counts["pairs whose picture cannot be read"] += 1
            continue
        ids = [str(side.get("question_id")) for side in (chosen, rejected)]
        infos = record["org_infos"] | {"question_ids": ids}
        if not all(map(is_unicode, (record["question"], record["chosen"], record["rejected"]))):
            counts["pairs with half of a surrogate pair"] += 1
            continue
        origin = {
            "type": find(chosen, "type"),
            "model": chosen.get("model_path"),
            "labeler": about["labeler"],
            "scores": list(pair.scores),
        }
        yield (
            record,
            {
                "ds_name": about["name"],
                "image": None if data is None else {"bytes": data, "path": record["image_path"]},
                "question": record["question"],
                "chosen": record["chosen"],
                "rejected": record["rejected"],
                "origin_dataset": str(find(chosen, "origin_dataset") or ""),
                "origin_split": json.dumps(origin),
                "idx": "-".join([record["ds_question_id"], *ids]),
                "image_path": record["image_path"],
                "ds_question_id": record["ds_question_id"],
                "org_infos": json.dumps(infos),
            },
        )


def original_record(pair: Pair, chosen: Record, rejected: Record) -> Record:
    """The original's record of a pair (get_preference_pairs.py), but with the reference where it is nested deeper."""
    path = str(find(chosen, "image_path") or "")

    def side(judged: Judged, score: float) -> dict[str, Any]:
        verdicts = {question: "1" if accepted else "0" for question, accepted in judged.verdicts}
        whole = score == int(score)
        return {"judge": verdicts, "score": str(int(score) if whole else score)}

    def claims(record: Record) -> dict[str, Any]:
        return {key: record[key] for key in ("facts", "changed_facts") if key in record}

    infos = {
        "ds_question_id": pair.chosen.group,
        "reference": find(chosen, "reference") or "",
        "origin_file": find(chosen, "origin_file") or "",
        "chosen_infos": claims(chosen),
        "rejected_infos": claims(rejected),
        "scores": {
            "chosen": side(pair.chosen, pair.scores[0]),
            "rejected": side(pair.rejected, pair.scores[1]),
        },
    }
    return {
        "image_id": path.split("/")[-1],
        "image_path": path,
        "ds_question_id": pair.chosen.group,
        "question": pair.chosen.question,
        "chosen": pair.chosen.answer,
        "rejected": pair.rejected.answer,
        "org_infos": infos,
    }


def _write_rows(rows: Iterator[tuple[Record, dict[str, Any]]], directory: Path, shard_rows: int) -> int:
    """Everything goes beside its place first, so that the files are whole or not there."""
    partial = scratch("pairs") if is_remote(directory) else directory / PARTIAL
    written = 0
    group: list[dict[str, Any]] = []
    writer: pq.ParquetWriter | None = None
    with open(partial / "pairs.jsonl", "w", encoding="utf-8") as lines:
        for record, row in rows:
            lines.write(json.dumps(record) + "\n")
            if written % shard_rows == 0:
                _flush(writer, group)
                writer = _next(writer, partial / f"{written // shard_rows:05}.parquet")
            group.append(row)
            written += 1
            if len(group) == ROWS:
                _flush(writer, group)
    _flush(writer, group)
    if writer:
        writer.close()
    for file in entries(partial):
        if file.name != MARK:
            put(file, directory / file.name)
    return written


def _flush(writer: pq.ParquetWriter | None, group: list[dict[str, Any]]) -> None:
    if writer and group:
        writer.write_table(pa.Table.from_pylist(group, schema=SCHEMA))
        group.clear()


def _next(writer: pq.ParquetWriter | None, file: Path) -> pq.ParquetWriter:
    if writer:
        writer.close()
    return pq.ParquetWriter(file, SCHEMA)
