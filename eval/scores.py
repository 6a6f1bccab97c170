"""From rows to metrics: sums, repetitions, and bootstrap intervals over the answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from eval.benchmark import Benchmark, Mode

RESAMPLES = 2000
LEVEL = 95  # percent of an interval


def sums_of(counts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Over rows; the names of the first."""
    return {name: float(sum(row[name] for row in counts)) for name in counts[0]} if counts else {}


def metrics_of(benchmark: Benchmark, counts: Sequence[Mapping[str, float]], mode: Mode) -> dict[str, float | None]:
    """JSON values: None where nothing can be said, also where there are no rows at all."""
    if not counts:
        return {}
    return {name: plain(value) for name, value in benchmark.metrics(sums_of(counts), mode).items()}


def plain(value: Any) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None


def averaged(runs: Sequence[Mapping[str, float | None]]) -> tuple[dict[str, float | None], dict[str, float]]:
    """Mean of each metric over repetitions, and its standard deviation where there are several."""
    means: dict[str, float | None] = {}
    spread = {}
    for name in runs[0] if runs else ():
        values = [value for run in runs if (value := run.get(name)) is not None]
        means[name] = float(np.mean(values)) if len(values) == len(runs) else None
        if len(values) == len(runs) > 1:
            spread[name] = float(np.std(values, ddof=1))
    return means, spread


def draws(rows: int, seed: int) -> np.ndarray:
    """How often each of `rows` is drawn: int[RESAMPLES, rows], each line sums to `rows`."""
    return np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=RESAMPLES)


def intervals(
    benchmark: Benchmark, counts: Sequence[Mapping[str, float]], mode: Mode, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of every metric that every draw defines."""
    if not counts:
        return {}
    drawn = resampled(benchmark, counts, mode, draws(len(counts), seed))
    tail = (100 - LEVEL) / 2
    found = {}
    for name, values in drawn.items():
        if np.ndim(values) and np.isfinite(values).all():
            low, high = np.percentile(values, (tail, 100 - tail))
            found[name] = (float(low), float(high))
    return found


def resampled(
    benchmark: Benchmark, counts: Sequence[Mapping[str, float]], mode: Mode, drawn: np.ndarray
) -> dict[str, np.ndarray]:
    """Every metric for every draw: float64[RESAMPLES]."""
    names = list(counts[0])
    table = np.array([[row[name] for name in names] for row in counts], np.float64)
    sums = drawn @ table
    return dict(benchmark.metrics({name: sums[:, column] for column, name in enumerate(names)}, mode))


def mean_counts(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What an item adds to the sums, on average over its repetitions; {} if one of them is {}, since it failed."""
    return {name: float(np.mean([counts[name] for counts in each])) for name in each[0]} if all(each) else {}
