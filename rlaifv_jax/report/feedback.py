"""Feedback directories: answers with the chances of their claims, pairs, and why others were dropped."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from etils import epath

from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.fields import Owner, Record, find, owner_of, question_of
from rlaifv_jax.feedback.rules import WORDS, yes_chance
from rlaifv_jax.report.charts import Chart, histogram
from rlaifv_jax.report.find import Place
from rlaifv_jax.report.reading import Json, is_number, read_lines, read_object

CLAIMS, ANSWERS, PAIRS = 20_000, 5_000, 50_000  # that are read of a directory, at most


@dataclass(frozen=True)
class Claim:
    """chance: P(yes) of yes and no together, None where there is no verdict."""

    text: str
    chance: float | None


@dataclass(frozen=True)
class Said:
    """An answer. record: as its file has it, by which its picture is found."""

    owner: Owner
    model: str
    text: str
    claims: tuple[Claim, ...]
    record: Record

    @property
    def doubted(self) -> int:
        """Claims that are likelier false than true."""
        return sum(claim.chance is not None and claim.chance <= 0.5 for claim in self.claims)


@dataclass(frozen=True)
class Pair:
    """words: of chosen and rejected. scores: of both, None where the file has none."""

    words: tuple[int, int]
    scores: tuple[float, float] | None
    record: Json


@dataclass(frozen=True)
class Feedback:
    """report: pairs/report.json, empty where no pairs are made. partly: whether more was there than was read."""

    name: str
    directory: epath.Path
    answers: Sequence[Said]
    pairs: Sequence[Pair]
    report: Json
    partly: bool

    @property
    def chances(self) -> np.ndarray:
        """float64[claims]."""
        return np.array([c.chance for said in self.answers for c in said.claims if c.chance is not None], np.float64)


def read_feedback(place: Place) -> Feedback:
    """The beginning of what a directory holds. Raises `UserError` where its files are damaged."""
    directory = place.directory
    verdicts: dict[str, dict[str, float | None]] = defaultdict(dict)
    records = list(islice(_records(directory / "score"), CLAIMS))
    for record in records:
        verdicts[str(record.get("question_id"))][_claim(record)] = _chance(record)
    asked = list(islice(_records(directory / "question"), ANSWERS))
    answers = [said for record in asked if (said := _said(record, verdicts)) is not None]
    pairs = list(_pairs(directory / "pairs" / "pairs.jsonl"))
    report = directory / "pairs" / "report.json"
    return Feedback(
        place.name,
        directory,
        answers,
        pairs,
        read_object(report) if report.exists() else {},
        len(records) == CLAIMS or len(asked) == ANSWERS,
    )


def _records(stage: epath.Path) -> Iterator[Record]:
    """Of the finished shards of a stage, which may be under way."""
    for file in sorted(stage.glob("[0-9]*.jsonl")) if stage.exists() else ():
        yield from read_lines(file)


def _claim(record: Record) -> str:
    """What a verdict is about, or the question where the record does not say."""
    claim = find(record, "origin_fact")
    return str(record.get("raw_question") if claim is None else claim)


def _chance(record: Record) -> float | None:
    scores = record.get("scores")
    if record.get("error") or not isinstance(scores, dict) or not all(is_number(scores.get(word)) for word in WORDS):
        return None
    chance = yes_chance(scores)
    return chance if np.isfinite(chance) else None


def _said(record: Record, verdicts: dict[str, dict[str, float | None]]) -> Said | None:
    """An answer of the stage `question`; None where it has an error or its verdicts are not read."""
    known, claims = verdicts.get(str(record.get("question_id"))), record.get("facts")
    if record.get("error") or not isinstance(claims, list) or not (known or not claims):
        return None
    found = tuple(Claim(str(claim), (known or {}).get(str(claim))) for claim in claims)
    return Said(owner_of(record), str(record.get("model_path") or ""), str(record.get("answer")), found, record)


def _pairs(file: epath.Path) -> Iterator[Pair]:
    if not file.exists():
        return
    for number, record in enumerate(read_lines(file, PAIRS), 1):
        chosen, rejected = record.get("chosen"), record.get("rejected")
        if not isinstance(chosen, str) or not isinstance(rejected, str):
            raise UserError(f"{file}, line {number}: has no chosen and rejected text; make the pairs anew")
        scores = (record.get("org_infos") or {}).get("scores") or {}
        yield Pair((len(chosen.split()), len(rejected.split())), _scores(scores), record)


def _scores(scores: Json) -> tuple[float, float] | None:
    try:
        return float(scores["chosen"]["score"]), float(scores["rejected"]["score"])
    except (KeyError, TypeError, ValueError):
        return None


def claim_charts(found: Sequence[Feedback]) -> list[Chart]:
    """How sure the labeler was, a line a directory."""
    there = [each for each in found if len(each.chances)]
    if not there:
        return []
    values = [
        (each.name, each.chances, series, "dashed bins" if series else "bins") for series, each in enumerate(there)
    ]
    note = f"Of the first {CLAIMS:,} claims." if any(each.partly for each in there) else ""
    lines = histogram(values, np.linspace(0, 1, 21))
    return [Chart("Claims by p(yes)", "p(yes)", lines, percent=True, note=note)]


def pair_charts(found: Feedback, name: str, series: int) -> list[Chart]:
    """Lengths of both sides, and how far their scores are apart. name: of the directory, '' where there is one."""
    if not found.pairs:
        return []
    behind = f", {name}" if name else ""
    note = f"Of the first {PAIRS:,} pairs." if len(found.pairs) == PAIRS else ""
    words = np.array([pair.words for pair in found.pairs], np.float64)
    most = max(float(np.percentile(words, 99.5)), 10.0)
    edges = np.linspace(0, np.ceil(most / 20) * 20, 21)
    sides = [("chosen", words[:, 0], series, "bins"), ("rejected", words[:, 1], series, "dashed bins")]
    beyond = " Longer ones are counted in the last bin." if words.max() > edges[-1] else ""
    charts = [
        Chart(
            f"Words an answer{behind}",
            "words",
            histogram(sides, edges),
            percent=True,
            note=note + beyond,
        )
    ]
    gaps = np.array([pair.scores[0] - pair.scores[1] for pair in found.pairs if pair.scores])
    if len(gaps):
        whole = bool(np.all(gaps == np.round(gaps)))
        last = min(float(gaps.max()), 12.0)
        bins = np.arange(0.5, last + 1) if whole else np.linspace(0, max(last, 1e-6), 21)
        lines = histogram([("pairs", gaps, series, "bins")], bins if len(bins) > 1 else np.array([0.5, 1.5]))
        charts.append(
            Chart(f"Score of chosen less that of rejected{behind}", "difference", lines, percent=True, note=note)
        )
    return charts


@dataclass(frozen=True)
class Filter:
    """Of what happened to answers, claims and pairs: what, and how often in every directory. drops: whether it tells
    of something that was left out."""

    what: str
    counts: Sequence[int | None]
    drops: bool


TOTALS = ("answers", "claims", "questions with judged answers", "combinations of two answers", "pairs")
KEPT = ("claims that were rejected",)  # which is no reason to drop anything


def filters(found: Sequence[Feedback]) -> list[Filter]:
    """Every count of the reports that is not 0 everywhere, as the stage `pairs` has told them."""
    reports = [_counts(each.report.get("counts")) for each in found]
    names = dict.fromkeys(name for report in reports for name in report)
    rows = [Filter(name, [report.get(name) for report in reports], name not in (*TOTALS, *KEPT)) for name in names]
    return [row for row in rows if any(row.counts)]


def _counts(told: object) -> dict[str, int]:
    return {name: int(count) for name, count in told.items() if is_number(count)} if isinstance(told, dict) else {}


def texts_of(record: Json) -> tuple[str, str, str]:
    """Question, chosen and rejected answer of a pair."""
    return question_of(record, "pairs"), record["chosen"], record["rejected"]
