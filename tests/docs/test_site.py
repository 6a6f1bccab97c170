"""The documentation builds without a warning, asks nothing of other machines, and leaves no page out."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import world

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=world.ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr.strip()
    return folder


def test_every_page_is_there(site: Path) -> None:
    pages = {page.stem for page in (world.ROOT / "docs").glob("*.md")}
    assert pages <= {page.stem for page in site.glob("*.html")}


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    """Links are not requests; what a browser loads by itself is scripts, styles, pictures, frames and fonts."""
    loads = re.compile(r"<(?:script|img|iframe|source|video)[^>]*?\ssrc=\"?(?:https?:)?//[^\"> ]+|<link[^>]*?//[^> ]+>")
    for page in site.glob("*.html"):
        found = [load for load in loads.findall(page.read_text()) if 'rel="canonical"' not in load]
        assert not found, (page.name, found)
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)[\"' ]*(?:https?:)?//", style.read_text()), style


def test_the_reference_holds_what_programs_import(site: Path) -> None:
    text = (site / "api.html").read_text()
    for name in (
        "rlaifv_jax.chat.Chat.chat",
        "rlaifv_jax.losses.dpo",
        "rlaifv_jax.step.train_step",
        "rlaifv_jax.data.schema.open_source",
        "rlaifv_jax.sampling.settings.Sampling",
        "rlaifv_jax.feedback.rules.make_pairs",
        "convert.load.open_model",
        "convert.export.export_model",
        "eval.benchmark.Benchmark",
    ):
        assert f'id="{name}"' in text, name
