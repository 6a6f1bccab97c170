"""The report as one HTML page with everything in it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlaifv_jax import __version__
from rlaifv_jax.pages import render
from rlaifv_jax.report.charts import Chart, Line
from rlaifv_jax.report.contents import Contents
from rlaifv_jax.report.draw import legend, svg

NONE = np.zeros(0)


def as_page(contents: Contents) -> str:
    """Draw all charts and fill the template."""
    return render(
        "report.html.j2",
        version=__version__,
        title=contents.title,
        report=contents,
        hallucination=_drawn(contents.hallucination),
        training=_drawn(contents.training),
        pairs=_drawn(contents.pairs),
        evaluation_charts=_drawn(contents.evaluation_charts),
        runs=legend([Line(name, NONE, NONE, number) for number, name in enumerate(contents.legend)]),
    )


def _drawn(charts: Sequence[Chart]) -> list[dict[str, Any]]:
    made = []
    for chart in charts:
        heading, rows = chart.table()
        made.append(
            {"chart": chart, "svg": svg(chart), "heading": heading, "rows": rows, "legend": legend(chart.lines)}
        )
    return made
