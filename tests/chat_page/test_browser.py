"""The page in Chromium: a picture is dropped, questions asked, an answer stopped; nothing leaves this machine."""

import base64
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rlaifv_jax.chat_page import serving
from rlaifv_jax.chat_page.desk import Desk
from rlaifv_jax.shapes.questions import DESCRIBE
from tests import world
from tests.chat_page import small
from tests.eval.browser import PATIENCE, chromium

GRADIOS = {"landmark-unique"}  # violations of gradio's own parts (docs/chat.md): the chatbots' placeholders
DROP = """async ([selector, name, type, data]) => {
    const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], name, {type}));
    document.querySelector(selector).dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true}));
}"""
SEEN = """() => {
    window.seen = [];
    const look = () => {
        const answers = document.querySelectorAll("#chats .message.bot");
        window.seen.push(answers.length ? answers[answers.length - 1].innerText.trim() : "");
    };
    const what = {subtree: true, childList: true, characterData: true};
    new MutationObserver(look).observe(document.querySelector("#chats"), what);
}"""
SECOND = "() => document.querySelectorAll('#chats .message.bot').length == 2 && window.seen.at(-1).length > 99"


@contextmanager
def served(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the page of a desk, on a port of its own."""
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    pytest.importorskip("gradio", reason="gradio is not installed; it comes with the chat extra")
    from rlaifv_jax.chat_page.page import Page

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    blocks = Page(desk, ["policy", "base"][: len(desk.chats)], 0, "").blocks
    try:
        yield serving.launch(blocks, "127.0.0.1", port)
    finally:
        blocks.close(verbose=False)


def drop(page: Any, name: str, type: str, data: bytes) -> None:
    target = "#picture button[aria-dropeffect]"
    page.locator(target).wait_for(state="attached")
    page.evaluate(DROP, [target, name, type, base64.b64encode(data).decode()])


def note(page: Any, text: str) -> None:
    page.wait_for_function("text => document.querySelector('#note').innerText.includes(text)", arg=text)


def test_a_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    chat = small.endless()
    chat.settings = replace(small.chat("policy").settings, num_beams=1)
    desk = Desk([chat])
    asked: list[str] = []
    faults: list[str] = []
    with chromium() as browser, served(desk, monkeypatch) as url:
        place = browser.new_context(viewport={"width": 390, "height": 900})
        page = place.new_page()
        page.set_default_timeout(3 * PATIENCE)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(url)
        box = page.get_by_label("Question")
        box.wait_for()
        assert "may be wrong" in page.inner_text("header")

        drop(page, "no.png", "image/png", b"hello")
        note(page, "no.png is no picture that can be read")
        drop(page, "scene.png", "image/png", small.scene()[1])
        note(page, "A new conversation about this picture")
        page.locator("#picture img").wait_for()
        box.fill(DESCRIBE)
        box.press("Enter")
        note(page, "Answered after")
        said = chat.chat(small.scene()[1], DESCRIBE, num_beams=1)
        page.get_by_text(said, exact=True).wait_for()

        page.evaluate(SEEN)
        chat.settings = small.endless().settings
        page.get_by_role("button", name="Settings").click()
        page.get_by_label("Max tokens").fill(str(small.LONG))
        box.fill("<img src=x onerror=alert(1)> what ?")
        page.get_by_role("button", name="Ask").click()
        page.wait_for_function(SECOND)
        page.get_by_role("button", name="Stop").click()
        note(page, "Stopped after")
        stopped = page.locator("#chats .message.bot").last.inner_text()
        growing = {text for text in page.evaluate("window.seen") if len(text) > 1 and stopped.startswith(text)}
        assert len(growing) > 3  # as it grew
        assert len(stopped.split()) < small.LONG / 2
        assert page.locator("#chats img").count() == 0
        page.get_by_text("<img src=x onerror=alert(1)> what ?", exact=True).wait_for()
        assert not desk.line._tickets

        found = axe.run(page).response["violations"]
        assert {one["id"] for one in found if one["impact"] in ("serious", "critical")} == set()
        assert {one["id"] for one in found} <= GRADIOS
        assert page.evaluate("document.documentElement.scrollWidth") == 390

        page.get_by_role("button", name="Regenerate").click()
        note(page, "draw nothing")
        page.get_by_role("button", name="New conversation").click()
        page.wait_for_function("() => document.querySelectorAll('#chats .message').length == 0")
        box.fill("what ?")
        box.press("Enter")
        world.wait_until(lambda: bool(desk.line._tickets), 20)
        place.close()  # whoever goes keeps nobody waiting
        world.wait_until(lambda: not desk.line._tickets, 20)
    assert faults == []
    assert [one for one in asked if not one.startswith((url, "data:", "blob:"))] == []


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="gradio is not installed; it comes with the chat extra")
    import urllib.request

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    models = small.SHAPES / "models"
    flags = ["--web", "--model", models / "policy", "--compare", models / "base", "--port", port]
    command = [sys.executable, "-m", "rlaifv_jax.chat", *map(str, flags)]
    job = world.Job(command)
    job.wait_for(lambda: f"open http://127.0.0.1:{port}/" in job.said()[0], 120)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
        assert b"policy" in page.read()
    taken = world.run(command)
    assert taken.returncode == 2
    assert taken.stderr.strip().splitlines()[-1].startswith(f"error: --port {port} at 127.0.0.1 is taken")
    ((status, said),) = job.send(signal.SIGINT).end(60)
    assert status == 130
    assert "Traceback" not in said
