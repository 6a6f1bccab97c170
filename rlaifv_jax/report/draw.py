"""Charts as SVG for the page, whose colours follow light and dark, and as one PNG for papers."""

import io
import re
from collections.abc import Sequence
from textwrap import fill
from typing import Any

from markupsafe import Markup

from rlaifv_jax.errors import UserError
from rlaifv_jax.report.charts import Chart, Line

WIDTH, HEIGHT, DPI = 340, 206, 72  # of a chart on the page: points, which are its pixels where it is not scaled
MARKERS = "os^DvPX*"
MARKER_TEXTS = "●■▲◆▼✚✖★"  # the same for legends in text
SERIES = 6  # colours

# Colours that stand for others in the SVG until `_inlined` names these by variables of style.css.
PLACEHOLDERS = {"ink": "#010101", "quiet": "#010102", "line": "#010103"} | {
    f"series-{number}": f"#0102{number:02x}" for number in range(SERIES)
}
PAPER = {"ink": "#1d1c1a", "quiet": "#66625c", "line": "#d8d4cd"} | {
    f"series-{number}": color
    for number, color in enumerate(("#a8391a", "#1f628f", "#3d7a3a", "#7d4fa0", "#8a6a00", "#a23a72"))
}


def svg(chart: Chart) -> Markup:
    """An element to put into the page."""
    pyplot = _pyplot()
    with pyplot.rc_context({"svg.fonttype": "none", "svg.hashsalt": "rlaifv-jax", "font.size": 10.5}):
        figure = pyplot.figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI, layout="constrained")
        _draw(figure.subplots(), chart, PLACEHOLDERS)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None})
        pyplot.close(figure)
    return _inlined(stream.getvalue(), chart.summary)


def png(charts: Sequence[Chart], title: str) -> bytes:
    """All charts in one figure on white."""
    pyplot = _pyplot()
    columns = min(3, len(charts))
    rows = -(-len(charts) // columns)
    with pyplot.rc_context({"font.size": 9}):
        figure = pyplot.figure(figsize=(4.2 * columns, 2.9 * rows + 0.5), layout="constrained")
        figure.suptitle(_plain(title), fontsize=12)
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for axes, chart in zip(panels, charts, strict=False):
            _draw(axes, chart, PAPER)
            axes.set_title(fill(_plain(chart.title), 52), fontsize=9, loc="left")
            if len({line.label for line in chart.lines}) > 1:
                axes.legend(fontsize=7, frameon=False)
        for axes in panels[len(charts) :]:
            axes.remove()
        stream = io.BytesIO()
        figure.savefig(stream, dpi=150, metadata={"Software": None})
        pyplot.close(figure)
    return stream.getvalue()


def legend(lines: Sequence[Line]) -> list[tuple[str, int, str]]:
    """Sign, number of the colour and label of every line."""
    signs = {"dashed": "┅", "bins": "▇", "dashed bins": "┅"}
    return [
        (signs.get(line.style, MARKER_TEXTS[line.series % len(MARKER_TEXTS)]), line.series % SERIES, line.label)
        for line in lines
    ]


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise UserError("--format: charts need matplotlib: pip install 'rlaifv-jax[report]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _draw(axes: Any, chart: Chart, colors: dict[str, str]) -> None:
    for line in chart.lines:
        _draw_line(axes, chart, line, colors[f"series-{line.series % SERIES}"])
    axes.set_xlabel("" if chart.places else chart.x, color=colors["quiet"], fontsize="medium")
    if chart.places:
        turned = len(chart.places) > 8 or sum(map(len, chart.places)) > 32
        way: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if turned else {}
        axes.set_xticks(range(len(chart.places)), [_plain(name) for name in chart.places], **way)
        axes.set_xlim(-0.4, len(chart.places) - 0.6)
    elif chart.logarithmic:
        axes.set_xscale("log", base=2)
        axes.set_xticks(chart.lines[0].x, [f"{value:g}" for value in chart.lines[0].x])
        axes.minorticks_off()
    else:
        axes.locator_params(axis="x", nbins=6, integer=not any(line.is_histogram for line in chart.lines))
    if chart.percent and (chart.places or chart.logarithmic):
        top = axes.get_ylim()[1]
        axes.set_ylim(0, top if top < 0.9 else 1)
    low, high = axes.get_ylim()
    if high - low < 1e-3 * max(abs(low), abs(high)):  # always the same, but for rounding
        axes.set_ylim(low - 0.1 * abs(low), high + 0.1 * abs(high))
    axes.locator_params(axis="y", nbins=5)
    axes.yaxis.set_major_formatter(lambda value, _: _tick(value, chart.percent))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(colors["line"])
    axes.grid(axis="y", color=colors["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=colors["quiet"], labelcolor=colors["quiet"], length=0, labelsize="medium")


def _tick(value: float, percent: bool) -> str:
    """A number beside the y axis, short."""
    if percent:
        text = f"{round(100 * value, 6):g} %"
    elif abs(value) >= 1e6:
        text = f"{value / 1e6:g}M"
    elif abs(value) >= 1e4:
        text = f"{value / 1e3:g}k"
    else:
        text = f"{value:.3g}"
    return text.replace("-", "−")


def _plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def _draw_line(axes: Any, chart: Chart, line: Line, color: str) -> None:
    marker = MARKERS[line.series % len(MARKERS)]
    if line.is_histogram:
        dashed = line.style == "dashed bins"
        if not dashed:
            axes.stairs(line.y, line.x, fill=True, color=color, alpha=0.16, linewidth=0)
        axes.stairs(
            line.y, line.x, color=color, linestyle="--" if dashed else "-", linewidth=1.5, label=_plain(line.label)
        )
        return
    if line.low is not None and line.high is not None:
        if chart.places:
            axes.errorbar(
                line.x,
                line.y,
                [line.y - line.low, line.high - line.y],
                color=color,
                fmt="none",
                linewidth=1.2,
                capsize=3,
            )
        else:
            axes.fill_between(line.x, line.low, line.high, color=color, alpha=0.18, linewidth=0)
    style = {"line": "-", "dashed": (0, (4, 2)), "points": "none"}[line.style]
    spaced = chart.places or chart.logarithmic or line.style == "points"
    every = 1 if spaced else (line.series * 3 % 7, max(1, len(line.x) // 6))
    size = {"line": 4.0, "dashed": 4.0, "points": 5.5}[line.style] if spaced or line.style == "line" else 0
    axes.plot(
        line.x,
        line.y,
        color=color,
        linestyle=style,
        linewidth=1.6,
        marker=marker,
        markersize=size,
        markevery=every,
        markerfacecolor="none" if line.style == "points" and not chart.places else None,
        label=_plain(line.label),
        clip_on=False,
    )


def _inlined(text: str, summary: str) -> Markup:
    """The SVG element alone, its colours by name, its size that of its place, without names that charts share."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    for name, color in PLACEHOLDERS.items():
        text = text.replace(color, f"var(--{name})")
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", text)
    text = re.sub(r"\n\s*", "\n", text)
    start = Markup('<svg class="chart" role="img" aria-label="{}" viewBox="0 0 {} {}">').format(summary, WIDTH, HEIGHT)
    return start + Markup(text[text.index(">") + 1 :])
