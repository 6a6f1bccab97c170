"""Headless Chromium for the tests of pages: the one that is installed; nothing is downloaded."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE = 20_000  # ms, on a machine with other work


@contextmanager
def chromium() -> Iterator[Any]:
    """A Playwright browser with an empty profile. Skips the test, saying why, where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed; it comes with the test extra")
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip(f"no browser here: none of {', '.join(NAMES)} is on the PATH")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, file: Path, hash: str = "", width: int = 1280, height: int = 900, **context: Any) -> Iterator:
    """The page of a file, open. In the end, sees that it wrote nothing to the console, and asked for no address but
    files."""
    said: list[str] = []
    asked: list[str] = []
    place = browser.new_context(viewport={"width": width, "height": height}, **context)
    page = place.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.resolve().as_uri() + hash)
    try:
        yield page
    finally:
        place.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
