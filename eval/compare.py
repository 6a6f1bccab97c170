"""Runs side by side: differences with paired bootstrap intervals, and what papers state."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from eval import registry, scores
from eval.benchmark import Mode
from eval.files import read_rows
from eval.published import PUBLISHED
from rlaifv_jax.errors import UserError

ALIKE = ("mode", "extractor", "swapped")  # must be the same for a difference to mean anything
SHAPE = {"title": str, "mode": str, "metrics": dict, "headline": list, "hashes": dict, "n": int, "n_failed": int}


@dataclass(frozen=True)
class Scored:
    """A finished run: its directory, scores.json, and what each question adds to the sums, on average."""

    name: str
    report: Mapping[str, Any]
    counts: Mapping[str, Mapping[str, float]]


def _generation(run: Scored) -> Any:
    how = run.report.get("generation")
    return {key: how[key] for key in how if key not in ("model", "engine")} if isinstance(how, dict) else None


MADE_WITH: dict[str, Callable[[Scored], Any]] = {
    "judge": lambda run: (run.report["judge"] or {}).get("model"),
    "prompts": lambda run: run.report["hashes"].get("prompts"),
    "data": lambda run: run.report["hashes"].get("data"),
    "settings of generation": _generation,
}


def open_runs(path: Path) -> list[Scored]:
    """The run in a directory, or all runs in directories below it.

    Raises:
      UserError: there is none.
    """
    files = [path / "scores.json"] if (path / "scores.json").is_file() else sorted(path.glob("*/scores.json"))
    if not files:
        raise UserError(f"{path}: holds no run; the --output of python -m eval run or all is needed")
    return [_open(file, str(path)) for file in files]


def _open(file: Path, name: str) -> Scored:
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(report, dict):
            raise ValueError("no object")
        for key, kind in SHAPE.items():
            if not isinstance(report.get(key), kind):
                raise ValueError(f"{key!r} is missing or of another type")
        benchmark = registry.get(str(report.get("benchmark")))
        if report["mode"] not in get_args(Mode) or not isinstance(report.get("judge"), dict | None):
            raise ValueError("'mode' or 'judge' cannot be read")
        counts = _counts(read_rows(file.with_name("items.jsonl")))
        for each in list(counts.values())[:1]:
            scores.metrics_of(benchmark, [each], report["mode"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, UserError) as error:
        raise UserError(f"{file} or its items.jsonl is damaged ({error}); score the answers again") from None
    return Scored(name, report, counts)


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    runs: dict[str, list[dict[str, float]]] = {}
    for row in rows:
        if not all(isinstance(x, int | float) and math.isfinite(x) for x in row["counts"].values()):
            raise ValueError("a count is no number")
        runs.setdefault(str(row["id"]), []).append(row["counts"])
    return {item: mean for item, each in runs.items() if (mean := scores.mean_counts(each))}


def table(runs: Sequence[Scored], *, published: bool = True) -> list[dict[str, Any]]:
    """A block for each benchmark: {"benchmark", "metrics": [names], "rows": [{"name", "values", "differences",
    "notes"} …]}. A difference is [value, low, high] to the first run of the block."""
    blocks = []
    for name in dict.fromkeys(run.report["benchmark"] for run in runs):
        of_it = [run for run in runs if run.report["benchmark"] == name]
        metrics = list(dict.fromkeys([*of_it[0].report["headline"], *of_it[0].report["metrics"]]))
        rows = [_row(run, of_it[0], metrics) for run in of_it]
        if published:
            rows += [
                {"name": f"{one.model} (published)", "values": one.figures[name], "notes": [one.source]}
                for one in PUBLISHED
                if name in one.figures
            ]
        blocks.append({"benchmark": name, "title": of_it[0].report["title"], "metrics": metrics, "rows": rows})
    return blocks


def _row(run: Scored, first: Scored, metrics: Sequence[str]) -> dict[str, Any]:
    notes = [f"{run.report['n_failed']} of {run.report['n']} failed"] if run.report["n_failed"] else []
    row: dict[str, Any] = {"name": run.name, "values": dict(run.report["metrics"]), "notes": notes}
    if run is first:
        return row
    notes += [f"another {key} than {first.name}" for key in ALIKE if run.report.get(key) != first.report.get(key)]
    notes += [f"other {what} than {first.name}" for what, told in MADE_WITH.items() if told(run) != told(first)]
    row["differences"] = differences(run, first, metrics)
    return row


def differences(run: Scored, first: Scored, metrics: Sequence[str]) -> dict[str, list[float]]:
    """[difference, low, high] on the questions that both answered, the same draws for both."""
    both = [item for item in first.counts if item in run.counts]
    if not both:
        return {}
    benchmark = registry.get(run.report["benchmark"])
    drawn = scores.draws(len(both), 0)
    each = [([one.counts[item] for item in both], one.report["mode"]) for one in (run, first)]
    values = [scores.metrics_of(benchmark, counts, mode) for counts, mode in each]
    many = [scores.resampled(benchmark, counts, mode, drawn) for counts, mode in each]
    found = {}
    for name in metrics:
        here, there = (one.get(name) for one in values)
        gap = np.asarray(many[0].get(name)) - np.asarray(many[1].get(name)) if name in many[0] else np.array(np.nan)
        if here is not None and there is not None and gap.ndim and np.isfinite(gap).all():
            low, high = np.percentile(gap, (2.5, 97.5))
            found[name] = [here - there, float(low), float(high)]
    return found


def text(blocks: Sequence[Mapping[str, Any]], columns: int = 4) -> str:
    """For a terminal: the first metrics of every benchmark."""
    lines = []
    for block in blocks:
        names = block["metrics"][:columns]
        width = max(len(row["name"]) for row in block["rows"]) + 2
        lines.append(f"{block['title']}")
        lines.append(" " * width + "".join(f"{name:>30}" for name in names))
        for row in block["rows"]:
            cells = "".join(f"{_cell(row, name):>30}" for name in names)
            notes = f"   {'; '.join(row['notes'])}" if row["notes"] else ""
            lines.append(f"{row['name']:<{width}}{cells}{notes}")
        lines.append("")
    return "\n".join(lines).rstrip()


def _cell(row: Mapping[str, Any], name: str) -> str:
    value = row["values"].get(name)
    if value is None:
        return "–"
    difference = row.get("differences", {}).get(name)
    if difference is None:
        return f"{value:.2f}"
    gap, low, high = difference
    return f"{value:.2f} {gap:+.2f} [{low:+.2f}, {high:+.2f}]"
