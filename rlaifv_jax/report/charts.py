"""What a chart is, before it is drawn: lines of numbers, and the same as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

POINTS = 240  # of a line that is drawn; more are gathered into bands
ROWS = 20  # of a line in the table beneath


@dataclass(frozen=True)
class Line:
    """x, y: float64[N]; of a histogram x has the N + 1 edges of its bins.

    label: of the line in the table, and in the legend if it differs from others'. series: number of the run, which
    decides colour and marker. style: 'line', 'dashed', 'points', 'bins', 'dashed bins'. low, high: float64[N], of an
    interval or a band. every: so many values are in each point.
    """

    label: str
    x: np.ndarray
    y: np.ndarray
    series: int = 0
    style: str = "line"
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    every: int = 1

    @property
    def is_histogram(self) -> bool:
        return self.style.endswith("bins")


@dataclass(frozen=True)
class Chart:
    """x: what the axis counts. places: names at x = 0, 1, … instead of numbers. percent: values are shares, shown as
    per cent. note: what has to be known to read it. main: also in the figure for papers. legend: what line styles mean,
    where there are several."""

    title: str
    x: str
    lines: tuple[Line, ...]
    places: tuple[str, ...] = ()
    percent: bool = False
    note: str = ""
    main: bool = False
    logarithmic: bool = False

    @property
    def summary(self) -> str:
        """For those who do not see it: where each line begins and ends."""
        told = []
        for line in self.lines:
            if line.is_histogram:
                told.append(f"{line.label}: most at {self.at(line, int(np.argmax(line.y)))}")
            else:
                known = np.flatnonzero(np.isfinite(line.y))
                if known.size:
                    ends = (f"{self.shown(line.y[k])} at {self.at(line, k)}" for k in (known[0], known[-1]))
                    told.append(f"{line.label}: from {' to '.join(ends)}")
        return f"{self.title}. {'; '.join(told)}. The numbers are in the table beneath."

    def shown(self, value: float) -> str:
        """A value as the table has it."""
        return shown(100 * value) + " %" if self.percent and np.isfinite(value) else shown(value)

    def at(self, line: Line, place: int) -> str:
        """Where a value stands on the x axis."""
        if self.places:
            return self.places[int(line.x[place])]
        if line.is_histogram:
            return f"{shown(line.x[place])} to {shown(line.x[place + 1])}"
        return f"{self.x} {shown(line.x[place])}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Heading and rows; of a long line every n-th."""
        several, banded = len(self.lines) > 1, any(line.low is not None for line in self.lines)
        heading = ["", "of"] if several else [""]
        heading += ["value", *(["lowest", "highest"] if banded else [])]
        rows = []
        for line in self.lines:
            for place in evenly(len(line.y), ROWS):
                ends = [ends[place] for ends in (line.low, line.high) if ends is not None]
                values = [line.y[place], *ends, *([np.nan] * (2 * banded - len(ends)))]
                rows.append([self.at(line, place), *([line.label] if several else []), *map(self.shown, values)])
        return heading, rows


def shown(value: float) -> str:
    """Four digits that count; – for what is not known."""
    if not np.isfinite(value):
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"
    return text.replace("-", "−")


def percent(share: float) -> str:
    """One place behind the point."""
    return f"{100 * share:.1f} %"


def evenly(count: int, most: int) -> list[int]:
    """At most so many of 0 … count - 1, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))}) if count else []


def thinned(label: str, x: np.ndarray, y: np.ndarray, series: int = 0, style: str = "line") -> Line:
    """A line of POINTS at most: means of so many neighbours, with the lowest and highest of them as a band."""
    if len(x) <= POINTS:
        return Line(label, x, y, series, style)
    every = -(-len(x) // POINTS)
    starts = np.arange(0, len(x), every)
    known = np.isfinite(y)
    count = np.add.reduceat(known, starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.add.reduceat(np.where(known, y, 0), starts) / count
    low = np.minimum.reduceat(np.where(known, y, np.inf), starts)
    high = np.maximum.reduceat(np.where(known, y, -np.inf), starts)
    middle = np.add.reduceat(x, starts) / np.add.reduceat(np.ones(len(x)), starts)
    low, high = (np.where(count > 0, ends, np.nan) for ends in (low, high))
    return Line(label, middle, mean, series, style, low, high, every)


def histogram(values: Sequence[tuple[str, np.ndarray, int, str]], edges: np.ndarray) -> tuple[Line, ...]:
    """Shares of (label, values, series, style) in bins; what lies beyond the edges is counted in the outermost."""
    lines = []
    for label, found, series, style in values:
        counts = np.histogram(np.clip(found, edges[0], edges[-1]), edges)[0]
        lines.append(Line(label, edges, counts / max(len(found), 1), series, style))
    return tuple(lines)
