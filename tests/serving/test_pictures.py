"""Where pictures may come from, and how large they may be."""

import base64
import io
import os
import socket
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from rlaifv_jax.serving import remote
from rlaifv_jax.serving.pictures import Sources, is_web
from rlaifv_jax.serving.protocol import ApiError
from rlaifv_jax.serving.remote import Halt

CLOSED = Sources(web=False, folder=None, most_bytes=1 << 20, most_pixels=10_000, seconds=2.0)


def png(*size: int, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, (9, 8, 7) if mode == "RGB" else 0).save(buffer, "PNG")
    return buffer.getvalue()


def url(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def look(sources: Sources, address: str, field: str = "x") -> Image.Image:
    """As the server does."""
    fetched = sources.fetched(address, field, Halt()) if is_web(address) else None
    return sources.picture(address, field, fetched)


def refused(sources: Sources, address: str, message: str) -> None:
    with pytest.raises(ApiError, match=message) as found:
        look(sources, address, "messages[0].content[0].image_url.url")
    assert found.value.status == 400
    assert found.value.param == "messages[0].content[0].image_url.url"


def test_base64() -> None:
    assert CLOSED.picture(url(png(100, 100)), "x").size == (100, 100)
    assert CLOSED.picture(url(png(10, 20), "IMAGE/PNG").replace("data:", "DATA:", 1), "x").getpixel((3, 3)) == (9, 8, 7)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("data:image/png;base64,****", "no valid base64"),
        ("data:image/png;base64,iVBORw0KGgo", "no valid base64"),  # without its padding
        ("data:image/png,abc", "has no base64"),
        ("data:", "has no base64"),
        ("data:image/png;base64,", "no picture that can be read"),
        (url(b"no picture"), "in no known format"),
        (url(png(90, 90)[:-40]), "no picture that can be read"),
        (url(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "in no known format"),
        (url(b"x" * (1 << 20) + b"x"), "at most 1048576 are taken"),
        (url(png(101, 100)), "101x100 pixels; at most 10000"),
        (url(png(20_000, 20_000, mode="1")), "400000000 pixels"),  # 400 million in a few kilobytes
        ("http://example.org/a.png", "fetches nothing from the web"),
        ("file:///etc/passwd", "a data: URL in base64 is needed"),
        ("/etc/passwd", "a data: URL in base64 is needed"),
        ("ftp://example.org/a.png", "a data: URL in base64 is needed"),
        ("", "a data: URL in base64 is needed"),
    ],
)
def test_what_is_refused(address: str, message: str) -> None:
    refused(CLOSED, address, message)


def test_files_below_a_directory_only(tmp_path: Path) -> None:
    shown, hidden = tmp_path / "shown", tmp_path / "shown but not"
    for folder in (shown / "in", hidden):
        folder.mkdir(parents=True)
    (shown / "in" / "a b.png").write_bytes(png(5, 6))
    (hidden / "secret.png").write_bytes(png(7, 7))
    (shown / "link.png").symlink_to(hidden / "secret.png")
    (shown / "way").symlink_to(hidden)
    (shown / "ok.png").symlink_to(shown / "in" / "a b.png")
    (shown / "large.png").write_bytes(b"x" * (1 << 20) + b"x")
    os.mkfifo(shown / "pipe.png")
    (tmp_path / "alias").symlink_to(shown)
    for folder in (shown, tmp_path / "alias"):
        sources = Sources(False, folder, 1 << 20, 10_000, 2.0)
        for name in ("in/a%20b.png", "in/../in/a%20b.png", "ok.png"):
            assert sources.picture(f"file://{shown}/{name}", "x").size == (5, 6)
        for path in (
            f"{hidden}/secret.png",
            f"{shown}/../shown%20but%20not/secret.png",
            f"{shown}/%2e%2e/shown%20but%20not/secret.png",
            f"{shown}/link.png",
            f"{shown}/way/secret.png",
            f"{shown}/nowhere.png",
            f"{shown}/pipe.png",
            f"{shown}/in",
            f"{shown}/%00",
            f"{shown}/%ff.png",
            "/proc/self/environ",
            "",
        ):
            refused(sources, f"file://{path}", "no picture of that name may be read here")
        refused(sources, f"file://otherhost{shown}/ok.png", "no picture of that name")
        refused(sources, f"file://{shown}/large.png", "more than 1048576 bytes")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:4700::1111", True),
        ("64:ff9b::5db8:d822", True),
        *[
            (text, False)
            for text in (
                "127.0.0.1",
                "127.8.8.8",
                "10.1.2.3",
                "172.16.0.1",
                "192.168.1.1",
                "169.254.169.254",
                "100.64.0.1",
                "0.0.0.0",
                "224.0.0.1",
                "255.255.255.255",
                "192.0.2.1",
                "::1",
                "::",
                "fe80::1",
                "fe80::1%eth0",
                "fc00::1",
                "fec0::1",
                "3fff::1",
                "ff02::1",
                "::ffff:127.0.0.1",
                "::ffff:10.0.0.1",
                "64:ff9b::7f00:1",
                "2002:7f00:1::",
                "2002:a9fe:a9fe::",
                "2001:0:1::f5ff:fffe",
            )
        ],
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert remote.is_public(address) == public


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1/a.png", "not public"),
        ("http://2130706433/a.png", "not public"),  # the same as a number
        ("http://0x7f.1/a.png", "not public"),
        ("http://[::1]/a.png", "not public"),
        ("http://localhost:8000/metrics", "not public"),
        ("http://user:word@127.0.0.1/", "none that can be fetched"),
        ("http://", "none that can be fetched"),
        ("http://[::1/", "none that can be fetched"),
        ("http://a:99999/", "none that can be fetched"),
        ("http://no such host/", "is not known"),
    ],
)
def test_addresses_within(address: str, message: str) -> None:
    refused(Sources(True, None, 1 << 20, 10_000, 2.0), address, message)


class Web:
    """A name that is public when it is looked up first, and within the second time; its server says what it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.looked_up: list[str] = []
        self.connected: list[str] = []
        self.replies: list[tuple[int, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, data = outer.replies.pop(0)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for number in range(100 if "Drip" in headers else 1):
                    time.sleep(0.2 * bool(number))
                    self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

        def look_up(host: str, port: int, **_: Any) -> list[Any]:
            self.looked_up.append(host)
            numbers = {"inner.example": ["10.0.0.1"], "mixed.example": ["93.184.216.34", "127.0.0.1"]}
            return [(0, 0, 0, "", (number, port)) for number in numbers.get(host, ["93.184.216.34"])]

        def dial(address: tuple[str, int], timeout: float) -> socket.socket:
            self.connected.append(address[0])
            found = socket.socket()
            found.settimeout(timeout)
            found.connect(("127.0.0.1", self.server.server_address[1]))
            return found

        monkeypatch.setattr(remote.socket, "getaddrinfo", look_up)
        monkeypatch.setattr(remote.socket, "create_connection", dial)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Any:
    found = Web(monkeypatch)
    yield found
    found.server.shutdown()
    found.server.server_close()


OPEN = Sources(web=True, folder=None, most_bytes=1 << 20, most_pixels=10_000, seconds=1.0)


def test_pictures_of_the_web_by_the_address_that_was_checked(web: Web) -> None:
    web.replies = [(302, {"Location": "/b.png"}, b""), (200, {}, png(4, 5))]
    assert look(OPEN, "http://pictures.example/a.png?x=1").size == (4, 5)
    assert web.connected == ["93.184.216.34"] * 2  # numbers, never names
    assert web.looked_up == ["pictures.example"] * 2


def test_who_goes_away_ends_what_is_fetched(web: Web) -> None:
    patient = replace(OPEN, seconds=60.0)
    web.replies = [(200, {"Drip": "1"}, b"x")]
    halt, begun = Halt(), time.monotonic()
    timer = threading.Timer(0.3, halt)
    timer.start()
    for _ in range(2):  # while it is waited for, and before
        with pytest.raises(ApiError):
            patient.fetched("http://pictures.example/a.png", "x", halt)
    assert time.monotonic() - begun < 3
    assert not web.replies


def test_what_the_web_may_not_do(web: Web) -> None:
    for address in ("http://inner.example/a.png", "http://mixed.example/a.png"):
        refused(OPEN, address, "not public")
    assert not web.connected
    for place in ("http://inner.example/", "http://mixed.example/a"):
        web.replies = [(302, {"Location": place}, b"")]
        refused(OPEN, "http://pictures.example/a.png", "not public")
    web.replies = [(302, {"Location": "file:///etc/passwd"}, b"")]
    refused(OPEN, "http://pictures.example/a.png", "none that can be fetched")
    web.replies = [(302, {"Location": "/again"}, b"")] * 9
    refused(OPEN, "http://pictures.example/a.png", "redirects too often")
    web.replies = [(404, {}, b"")]
    refused(OPEN, "http://pictures.example/a.png", "status 404")
    web.replies = [(200, {}, b"x" * (1 << 21))]
    refused(OPEN, "http://pictures.example/a.png", "more than 1048576 bytes")
    web.replies = [(200, {"Content-Length": "99"}, b"x")]  # and nothing more comes
    refused(OPEN, "http://pictures.example/a.png", "cannot be fetched|too long|no known format")
