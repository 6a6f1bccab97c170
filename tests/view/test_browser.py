"""The viewer in Chromium: keys, both widths, no violations that axe knows, nothing on the console."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from rlaifv_jax.view.app import create_app
from rlaifv_jax.view.entry import Set
from rlaifv_jax.view.opened import open_set
from tests.eval.browser import PATIENCE, chromium
from tests.view.sets import feedback, parquet, row

PHOTOS = Path(__file__).parents[3] / "shared/data/photos"


@contextmanager
def served(of: Set) -> Iterator[str]:
    """The address of a server in a thread."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(of), log_level="warning", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def watched(browser: Any, base: str, **context: Any) -> Iterator[Any]:
    """A page; in the end it has written nothing to the console and asked nobody else."""
    said: list[str] = []
    place = browser.new_context(**context)
    page = place.new_page()
    page.set_default_timeout(PATIENCE)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request", lambda request: said.append(request.url) if not request.url.startswith((base, "data:")) else None
    )
    yield page
    place.close()
    assert said == []


def violations(page: Any) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in axe.run(page).response["violations"]]


def test_pages_have_no_violations_at_any_width_and_in_the_dark(tmp_path: Path) -> None:
    out = open_set(str(feedback(tmp_path)), str(tmp_path))
    with chromium() as browser, served(out) as base:
        for width, scheme in ((1280, "light"), (390, "light"), (1280, "dark")):
            viewport = {"width": width, "height": 900}
            with watched(browser, base, viewport=viewport, color_scheme=scheme) as page:
                for address in ("/?show=all", "/?show=answer", "/pair/0.0.1?at=0", "/pair/0.0.2"):
                    page.goto(base + address)
                    assert violations(page) == [], (address, width, scheme)
                    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_keys(tmp_path: Path) -> None:
    file = parquet(tmp_path / "data.parquet", [row(number) for number in range(30)])
    with chromium() as browser, served(open_set(str(file))) as base, watched(browser, base) as page:
        page.goto(base)
        page.keyboard.press("j")
        page.keyboard.press("j")
        assert page.evaluate("document.activeElement.closest('article').id") == "pair-1"
        page.keyboard.press("k")
        page.keyboard.press("Enter")
        page.wait_for_url("**/pair/0?at=0")
        page.keyboard.press("ArrowRight")
        page.wait_for_url("**/pair/1?at=1")
        page.keyboard.press("k")
        page.wait_for_url("**/pair/0?at=0")
        page.keyboard.press("u")
        page.wait_for_url("**/?page=1#pair-0")
        page.keyboard.press("ArrowRight")
        page.wait_for_url("**/?page=2")
        page.keyboard.press("/")
        page.keyboard.type("picture 27j")
        page.keyboard.press("Backspace")
        page.keyboard.press("Enter")
        page.wait_for_url("**/?q=picture+27**")
        assert page.locator("article").count() == 1
        page.select_option("[name=sort]", "gap")
        page.wait_for_url("**sort=gap**")


@pytest.mark.skipif(not PHOTOS.exists(), reason="the shared photographs are not here")
def test_real_photographs() -> None:
    for name in ("photo_pairs.parquet", "photo_pairs.jsonl"):
        with chromium() as browser, served(open_set(str(PHOTOS / name))) as base, watched(browser, base) as page:
            page.goto(f"{base}/pair/0")
            image = page.locator("figure img")
            assert image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 640
            assert "parsley" in page.locator("ins").first.inner_text()
            assert page.locator("del").first.inner_text() == "two lemon wedges lie"
