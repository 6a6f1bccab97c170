"""metrics.jsonl and timing.jsonl of training runs → curves."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaifv_jax.errors import UserError
from rlaifv_jax.report.charts import Chart, Line, thinned
from rlaifv_jax.report.find import Place
from rlaifv_jax.report.reading import is_number, read_lines

Column = tuple[np.ndarray, np.ndarray]  # steps and values, float64[N] each


@dataclass(frozen=True)
class Panel:
    """columns: (name in the files, label, style). main: see `Chart`."""

    title: str
    columns: tuple[tuple[str, str, str], ...]
    percent: bool = False
    main: bool = True
    note: str = ""


HELD_OUT = "held-out"
RATES = ("tokens_per_second", "pairs_per_second", "mfu", "data_wait_share")  # measured by a clock
WINDOW = 9
CALM = f"Means of {WINDOW} neighbouring lines of the log, weighted by time."
PANELS = (
    Panel("Loss", (("loss", "training", "line"), ("eval_loss", HELD_OUT, "points"))),
    Panel(
        "Reward margin, chosen less rejected",
        (("rewards_train/margins", "training", "line"), ("rewards_test/margins", HELD_OUT, "points")),
    ),
    Panel(
        "Reward accuracy",
        (("rewards_train/accuracies", "training", "line"), ("rewards_test/accuracies", HELD_OUT, "points")),
        percent=True,
        note="Pairs whose chosen answer has the higher reward.",
    ),
    Panel(
        "Rewards of chosen (solid) and rejected (dashed) answers",
        (("rewards_train/chosen", "chosen", "line"), ("rewards_train/rejected", "rejected", "dashed")),
        main=False,
    ),
    Panel("Gradient norm", (("grad_norm", "training", "line"),)),
    Panel("Learning rate", (("learning_rate", "training", "line"),)),
    Panel(
        "Tokens a second",
        (("tokens_per_second", "training", "line"),),
        note=f"True lengths; padding does not count. {CALM}",
    ),
    Panel("Pairs a second", (("pairs_per_second", "training", "line"),), main=False, note=CALM),
    Panel("Model FLOP utilization", (("mfu", "training", "line"),), percent=True, note=CALM),
    Panel("Share of a step's time that waits for data", (("data_wait_share", "training", "line"),), True, False, CALM),
    Panel(
        "Goodput",
        (("goodput", "training", "line"),),
        True,
        False,
        "Time in steps that this run goes on from, of all time since its first start.",
    ),
)


def read_columns(run: Place) -> dict[str, Column]:
    """All numbers of a run by name. Raises `UserError` for files that are none."""
    steps, values = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    for name in ("metrics.jsonl", "timing.jsonl"):
        file = run.directory / name
        if not file.exists():
            continue
        for number, line in enumerate(read_lines(file), 1):
            step = line.get("step")
            if not is_number(step):
                raise UserError(f"{file}, line {number}: has no step; restore it, or move it away")
            for key, value in line.items():
                if value is None or isinstance(value, int | float):
                    steps[key].append(step)
                    values[key].append(float(value) if is_number(value) else np.nan)
    columns = {name: (np.array(steps[name], np.float64), np.array(values[name], np.float64)) for name in values}
    wait, whole = columns.get("data_wait_per_step"), columns.get("seconds_per_step")
    if wait and whole and len(wait[0]) == len(whole[0]):
        with np.errstate(invalid="ignore", divide="ignore"):
            columns["data_wait_share"] = (wait[0], wait[1] / whole[1])
    if whole:
        columns |= {name: _calm(columns[name], whole) for name in RATES if name in columns}
    return {name: column for name, column in columns.items() if np.isfinite(column[1]).any()}


def _calm(column: Column, seconds: Column) -> Column:
    """Means of WINDOW neighbours, weighted by the time that each took: a line that a checkpoint follows has too little
    time, and the next too much."""
    (steps, values), (others, weights) = column, seconds
    if not np.array_equal(steps, others):
        return column
    window = np.ones(WINDOW)
    weights = np.where(np.isfinite(values) & np.isfinite(weights), weights, 0)
    sums = (
        np.convolve(each, window)[WINDOW // 2 :][: len(steps)] for each in (np.nan_to_num(values) * weights, weights)
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return steps, np.divide(*sums)


def curves(runs: Sequence[tuple[str, dict[str, Column]]]) -> list[Chart]:
    """A chart for every panel of which something is known. runs: name and columns of each."""
    charts = []
    for panel in PANELS:
        there = [column for column in panel.columns if any(column[0] in columns for _, columns in runs)]
        lines = tuple(
            thinned(_label(name, label, len(runs), len(there)), *columns[column], series, style)
            for series, (name, columns) in enumerate(runs)
            for column, label, style in there
            if column in columns
        )
        if lines:
            held_out = "Hollow points are of held-out pairs." if any(line.style == "points" for line in lines) else ""
            note = " ".join(filter(None, (panel.note, held_out, _thinning(lines))))
            charts.append(Chart(panel.title, "step", lines, percent=panel.percent, note=note, main=panel.main))
    return charts


def _label(run: str, label: str, runs: int, columns: int) -> str:
    return ", ".join([*([run] if runs > 1 else []), *([label] if columns > 1 or runs == 1 else [])])


def _thinning(lines: Sequence[Line]) -> str:
    """What is drawn of long curves, in words."""
    every = sorted({line.every for line in lines if line.every > 1})
    if not every:
        return ""
    return (
        f"Each point is the mean of {' or '.join(map(str, every))} lines of the log, in a band from the lowest to the "
        "highest of them."
    )
