"""The report in a browser: nothing asked for, nothing said, nothing too wide, nothing that axe finds fault with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlaifv_jax.report.__main__ import write_report
from tests.eval.browser import chromium, opened
from tests.report import runs


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = runs.rounds(tmp_path_factory.mktemp("report") / "rounds")
    runs.evaluation(folder / "eval" / "before", 30.0)
    runs.evaluation(folder / "eval" / "after", 10.0)
    return Path(write_report(str(folder)))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_fault(browser: Any, report: Path, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    with opened(browser, report, width=width, color_scheme=scheme) as page:
        for details in page.locator("details").all():
            details.evaluate("each => each.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        charts = page.locator("svg.chart")
        assert charts.count() == 14
        assert all(box["width"] > 250 for box in (chart.bounding_box() for chart in charts.all()))
        drawn = charts.first.evaluate("chart => getComputedStyle(chart.querySelector('text')).fill")
        assert drawn == {"light": "rgb(102, 98, 92)", "dark": "rgb(163, 158, 149)"}[scheme]  # --quiet
