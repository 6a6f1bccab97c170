"""The records of a feedback directory as entries: every two answers to a question, with what became of them.

The stages' shards hold the same answers under the same number, so a page reads one shard of `question` and one of
`score`. What the stage of pairs has kept is looked up by the numbers of the answers, its `idx`.
"""

import json
import math
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.finder import Pictures
from rlaifv_jax.data.pictures import read_image
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.fields import Record, find, question_of
from rlaifv_jax.feedback.judged import Answer, hear, read_answers
from rlaifv_jax.feedback.rules import SCORES, accepts, yes_chance
from rlaifv_jax.records.shards import finished_files
from rlaifv_jax.view.entry import Claim, Entry, Fate, Side, Step, Unknown
from rlaifv_jax.view.parquet import ParquetRows
from rlaifv_jax.view.why import FATES, Ways, measured, read_json, ways_of

NUMBER = 20  # bits of an answer's place in its shard
SHARDS = 2  # kept in memory
UNREADABLE = "pairs whose picture cannot be read"


@dataclass(frozen=True)
class Judgement:
    """An answer of a shard. claims: with what the labeler says. names: of its picture. facts: where it comes from."""

    answer: Answer
    claims: tuple[Claim, ...]
    names: dict[str, Any]
    facts: dict[str, str]

    @property
    def error(self) -> str:
        """Why it is in no pair; empty where it can be."""
        if self.answer.faulty:
            return next(claim.error for claim in self.claims if claim.error)
        return "" if self.answer.verdicts else "it has no claim with a verdict"


Shard = list[list[Judgement]]  # by question


class FeedbackSet:
    """See `Set`. path: the directory of `rlaifv_jax.feedback`. images: folder of its pictures.

    Raises `UserError` where stages are missing, unfinished, or do not belong together.
    """

    kind = "feedback"
    count = None

    def __init__(self, path: str, images: str | None = None):
        self.name = path
        folder = Path(path)
        self._files = {stage: _files(folder / stage) for stage in ("question", "score")}
        self.total = len(self._files["question"])
        if self.total != len(self._files["score"]):
            raise UserError(f"{path}: question and score have not as many shards; the one was made from another")
        ways = ways_of(folder / "pairs")
        self._ways = ways or Ways()
        self._kept: dict[str, int] = {}
        self._pictures: dict[str, int] = {}
        self._made = _made(folder / "pairs") if ways else None
        self._find_kept()
        self._finder = Pictures([images, path], within=[place for place in (images, path) if place is not None])
        report = read_json(folder / "pairs" / "report.json")
        counts = report.get("counts", {})
        self._unreadable = bool(counts.get(UNREADABLE))
        self.about = {what: f"{count:,}" for what, count in counts.items() if count}
        if report.get("balance"):
            self.about["balance of lengths"] = str(report["balance"])
        self.fates = {key: counts.get("pairs") if key == "kept" else None for key in FATES}
        del self.fates["allowed" if ways else "kept"]
        self._lock = threading.Lock()
        self._shards: OrderedDict[int, Shard] = OrderedDict()

    def scan(self) -> Iterator[tuple[Entry, int]]:
        for number in range(self.total):
            try:
                shard = self._read(number)
            except UserError as error:
                yield self._broken(number, error), number + 1
                continue
            for question in shard:
                for one, other in _together(question):
                    yield self._entry(number, one, other), number + 1

    def entry(self, address: int) -> Entry:
        number, first, second = _unpack(address)
        try:
            shard = self._shard(number)
        except UserError as error:
            return self._broken(number, error)
        question = _question_of(shard, first)
        by_row = {one.answer.row: one for one in question}
        if (first, second) not in {(a.answer.row, b.answer.row) for a, b in _together(question)}:
            raise Unknown(address)
        return self._entry(number, by_row[first], by_row[second])

    def picture(self, address: int) -> bytes | None:
        number, first, _ = _unpack(address)
        question = _question_of(self._shard(number), first)
        return self._picture(next(one for one in question if one.answer.row == first))

    def siblings(self, address: int) -> list[Entry]:
        number, first, _ = _unpack(address)
        try:
            question = _question_of(self._shard(number), first)
        except UserError:
            return []
        alone = [self._alone(number, one) for one in question]
        return sorted(alone, key=lambda entry: (entry.sides[0].score is None, -(entry.sides[0].score or 0)))

    def to_id(self, address: int) -> str:
        return ".".join(map(str, _unpack(address)))

    def from_id(self, text: str) -> int:
        parts = text.split(".")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 7 for part in parts):
            raise Unknown(text)
        number, first, second = map(int, parts)
        if number >= self.total or max(first, second) >= 2**NUMBER:
            raise Unknown(text)
        return _pack(number, first, second)

    # ---------------------------------------------------------------- entries

    def _entry(self, shard: int, one: Judgement, other: Judgement) -> Entry:
        if one is other:
            return self._alone(shard, one)
        sides = [self._side(judgement, "answer") for judgement in (one, other)]
        pair = sorted(zip((one, other), sides, strict=True), key=lambda found: -(found[1].score or 0))
        alike = sides[0].score == sides[1].score
        names = ("one answer", "the other") if alike else ("chosen", "rejected")
        chosen, rejected = (
            Side(name, side.text, side.claims, side.score) for name, (_, side) in zip(names, pair, strict=True)
        )
        first, second = pair[0][0], pair[1][0]
        values = measured(chosen), measured(rejected)
        steps = self._ways.steps(*values)
        name = "-".join([first.answer.owner.group, first.answer.id, second.answer.id])
        key = "kept" if name in self._kept else self._ways.fate(*values, chosen.text.strip() == rejected.text.strip())
        if key == "cap" and self._made is None:
            key = "allowed"
        elif key == "cap" and self._unreadable and (why := self._why_unreadable(first)):
            key, steps = "picture", (*steps, Step("The picture can be read", why, False))
        elif key in ("kept", "cap") and self._ways.rules.cap:
            limit = (
                f"{self._ways.rules.cap} pairs of {'an image' if self._ways.rules.cap_by == 'image' else 'a question'}"
            )
            told = "drawn" if key == "kept" else "not drawn"
            if key == "cap" and not self._ways.tells_lengths:
                told = "not drawn, or left out for its length, whose limit is not known"
            steps = (*steps, Step(f"No more than {limit} are drawn", told, key == "kept"))
        elif key == "same":
            steps = (*steps, Step("The texts differ", "twice the same text", False))
        facts = {"id": name, **first.facts}
        if second.facts.get("answered by") != first.facts.get("answered by"):
            facts["rejected answer by"] = second.facts.get("answered by", "")
        address = _pack(shard, one.answer.row, other.answer.row)
        return Entry(address, one.answer.owner.question, (chosen, rejected), facts=facts, fate=Fate(key, steps))

    def _alone(self, shard: int, one: Judgement) -> Entry:
        """An answer without another."""
        fate = Fate("answer", (Step("The answer can be judged", one.error, False),)) if one.error else None
        address = _pack(shard, one.answer.row, one.answer.row)
        facts = {"id": f"{one.answer.owner.group}-{one.answer.id}", **one.facts}
        return Entry(address, one.answer.owner.question, (self._side(one, "answer"),), facts=facts, fate=fate)

    def _side(self, one: Judgement, name: str) -> Side:
        score = None if one.error else SCORES[self._ways.rules.score](one.answer.judged())
        return Side(name, one.answer.text, one.claims, score)

    def _broken(self, shard: int, error: UserError) -> Entry:
        return Entry(_pack(shard, 0, 0), "", (), note=f"shard {shard:05} cannot be read: {error}")

    # ---------------------------------------------------------------- files

    def _shard(self, number: int) -> Shard:
        with self._lock:
            if number not in self._shards:
                self._shards[number] = self._read(number)
            self._shards.move_to_end(number)
            while len(self._shards) > SHARDS:
                self._shards.popitem(last=False)
            return self._shards[number]

    def _read(self, number: int) -> Shard:
        records = list(_lines(self._files["question"][number]))
        answers = read_answers(records, Counter())
        claims: dict[int, list[Claim]] = {answer.row: [] for answer in answers}
        labelers: dict[int, str] = {}
        for answer, record in hear(answers, _lines(self._files["score"][number]), Counter()):
            place = len(claims[answer.row])
            text = answer.claims[place] if place < len(answer.claims) else ""
            claims[answer.row].append(_claim(record, text))
            labelers.setdefault(answer.row, str(record.get("model_path") or ""))
        questions: dict[tuple[str, ...], list[Judgement]] = {}
        for answer in answers:
            record = records[answer.row]
            unheard = [Claim(text) for text in answer.claims[len(claims[answer.row]) :]]
            facts = {
                "answered by": str(record.get("model_path") or ""),
                "labeler": labelers.get(answer.row, ""),
                "picture": answer.owner.picture,
            }
            found = Judgement(
                answer,
                (*claims[answer.row], *unheard),
                {name: find(record, name) for name in ("image", "image_path")},
                {name: value for name, value in facts.items() if value},
            )
            questions.setdefault(tuple(answer.owner), []).append(found)
        return list(questions.values())

    def _picture(self, one: Judgement) -> bytes | None:
        row = self._pictures.get(str(one.names["image_path"]))
        if row is not None and self._made is not None:
            return read_image(self._made.row(row), None, [])
        return self._finder.read(one.names)

    def _why_unreadable(self, one: Judgement) -> str:
        try:
            self._picture(one)
        except BadRow as fault:
            return str(fault)
        return ""

    def _find_kept(self) -> None:
        """Number the rows that the stage of pairs has kept, by `idx`, and one for each picture."""
        if self._made is None:
            return
        row = 0
        for file in self._made.files:
            with pq.ParquetFile(file, pre_buffer=False) as opened:
                for batch in opened.iter_batches(columns=["idx", "image_path"], use_threads=False):
                    for cells in batch.to_pylist():
                        self._kept[cells["idx"]] = row
                        if cells["image_path"]:
                            self._pictures.setdefault(cells["image_path"], row)
                        row += 1


def is_feedback(path: str) -> bool:
    """Whether a directory is what `rlaifv_jax.feedback` writes its stages into."""
    return all((Path(path) / stage).is_dir() for stage in ("question", "score"))


def _files(directory: Path) -> list[Path]:
    files = finished_files(directory)
    if files is None:
        raise UserError(f"{directory} holds no finished stage; run `python -m rlaifv_jax.feedback` to its end first")
    return files


def _made(directory: Path) -> ParquetRows:
    files = sorted(map(str, directory.glob("*.parquet")))
    if not files:
        raise UserError(f"{directory} has a manifest and no pairs; remove it to make them anew")
    return ParquetRows(files, str(directory))


def _together(question: list[Judgement]) -> Iterator[tuple[Judgement, Judgement]]:
    """Every two answers that can make a pair, and every one that cannot, twice."""
    yield from combinations([one for one in question if not one.error], 2)
    yield from ((one, one) for one in question if one.error)


def _question_of(shard: Shard, row: int) -> list[Judgement]:
    """Raises `Unknown` where no answer has the row."""
    for question in shard:
        if any(one.answer.row == row for one in question):
            return question
    raise Unknown(row)


def _claim(record: Record, text: str) -> Claim:
    """What the labeler says of a claim. p: of yes and no together, so that 0.5 is where the verdict turns."""
    question = question_of(record, "score")
    told = find(record, "origin_fact")
    text = told if isinstance(told, str) else text or question
    if record.get("error"):
        return Claim(text, question, error=str(record["error"]))
    chance = yes_chance(record["scores"])
    return Claim(text, question, 0.0 if math.isnan(chance) else chance, accepts(record["scores"]))


def _lines(file: Path) -> Iterator[Record]:
    with open(file, "rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            if not isinstance(record, dict):
                raise UserError(f"{file}, line {number} is damaged; run its stage again")
            yield record


def _pack(shard: int, first: int, second: int) -> int:
    return (shard << 2 * NUMBER) | (first << NUMBER) | second


def _unpack(address: int) -> tuple[int, int, int]:
    low = 2**NUMBER - 1
    return address >> 2 * NUMBER, address >> NUMBER & low, address & low
