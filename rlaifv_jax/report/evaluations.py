"""Runs of `eval` below the directory: their headline metrics with intervals, and how they differ from run to run."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaifv_jax.pages import number
from rlaifv_jax.report.about import Table
from rlaifv_jax.report.charts import Chart, Line
from rlaifv_jax.report.find import Place
from rlaifv_jax.report.reading import Json, is_number, read_object


@dataclass(frozen=True)
class Metric:
    """interval: at 95 %, None where there is none. better: 'higher', 'lower' or ''."""

    run: str
    benchmark: str
    name: str
    value: float
    interval: tuple[float, float] | None
    better: str
    items: int


def read_evaluations(places: Sequence[Place]) -> list[Metric]:
    """Headline metrics of every run. Raises `UserError` where scores.json is damaged."""
    found = []
    for place in places:
        scores = read_object(place.directory / "scores.json")
        values, intervals, better = (_object(scores, name) for name in ("metrics", "intervals", "higher_is_better"))
        items = int(scores["n"]) if is_number(scores.get("n")) else 0
        headline = scores.get("headline")
        for name in headline if isinstance(headline, list) else ():
            if is_number(values.get(name)):
                ends = intervals.get(name)
                interval = (
                    (ends[0], ends[1])
                    if isinstance(ends, list) and len(ends) == 2 and all(map(is_number, ends))
                    else None
                )
                way = {"True": "higher", "False": "lower"}.get(str(better.get(name)), "")
                title = str(scores.get("title") or scores.get("benchmark") or "Evaluation")
                found.append(Metric(place.name, title, name, values[name], interval, way, items))
    return found


def _object(scores: Json, name: str) -> Json:
    found = scores.get(name)
    return found if isinstance(found, dict) else {}


def table(metrics: Sequence[Metric]) -> Table | None:
    """A row for every headline metric of every run."""
    rows = []
    for each in metrics:
        ends = (number(end, each.value) for end in each.interval) if each.interval else None
        better = f" ({each.better} is better)" if each.better else ""
        between = " to ".join(ends) if ends else "–"
        rows.append([each.run, each.benchmark, each.name + better, number(each.value), between, f"{each.items:,}"])
    return Table(["run", "benchmark", "metric", "value", "95 %", "items"], rows) if rows else None


def charts(metrics: Sequence[Metric]) -> list[Chart]:
    """Metrics that several runs have, from run to run."""
    same = defaultdict[tuple[str, str], list[Metric]](list)
    for each in metrics:
        same[each.benchmark, each.name].append(each)
    return [_chart(f"{of}: {name}", runs) for (of, name), runs in same.items() if len(runs) > 1]


def _chart(title: str, runs: Sequence[Metric]) -> Chart:
    """An interval where all have one."""
    values = np.array([each.value for each in runs], float)
    ends = [each.interval for each in runs if each.interval]
    bounds = np.array(ends, float).T if len(ends) == len(runs) else None
    low, high = (None, None) if bounds is None else (np.minimum(bounds[0], values), np.maximum(bounds[1], values))
    note = "Bars: the 95 % bootstrap intervals of scores.json." if bounds is not None else ""
    if runs[0].better:
        note = f"{runs[0].better.capitalize()} is better. {note}".strip()
    line = Line(runs[0].name, np.arange(len(runs), dtype=float), values, 0, "points", low, high)
    return Chart(title, "run", (line,), tuple(each.run for each in runs), note=note, main=True)
