"""The pages as a client sees them: search, order, links, and who is let in."""

import html
import io
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from rlaifv_jax.view import found as found_module
from rlaifv_jax.view.found import Found, Query
from rlaifv_jax.view.opened import open_set
from rlaifv_jax.view.words import differences
from tests import world
from tests.feedback.chain import write_lines
from tests.view.sets import client, feedback, parquet, png, row

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [row(number) for number in range(50)]
    rows[7]["chosen"] = f"{EVIL} a zebra"
    rows[12]["chosen"] = "A cup " * 9
    rows[8]["image"] = {"bytes": b"no picture", "path": None}
    rows[30]["rejected"] = "Zebra " * 40
    return parquet(tmp_path_factory.mktemp("app") / "data.parquet", rows, group=11)


@pytest.fixture(scope="module")
def served(path: Path) -> TestClient:
    return client(open_set(str(path)))


def ids(page: str) -> list[str]:
    return re.findall(r'<article class="card pair" id="pair-([\d.]+)"', page)


def shown(served: TestClient, address: str) -> list[str]:
    reply = served.get(address)
    assert reply.status_code == 200
    return ids(reply.text)


def numbers(*values: int) -> list[str]:
    return [str(value) for value in values]


def test_pages_search_filters_and_order(served: TestClient) -> None:
    assert shown(served, "/") == numbers(*range(20))
    assert shown(served, "/?page=3") == numbers(*range(40, 50))
    assert shown(served, "/?page=9") == []
    assert shown(served, "/?q=ZEBRA") == ["7", "30"]
    assert shown(served, "/?q=zebra+alert") == ["7"]
    assert shown(served, "/?q=picture+30") == ["30"]
    assert shown(served, "/?gap=3") == numbers(*range(3, 50, 4))
    assert shown(served, "/?length=longer") == ["12"]
    assert shown(served, "/?sort=gap")[:2] == ["3", "7"]
    assert shown(served, "/?sort=shorter")[0] == "30"
    assert shown(served, "/?sort=small_gap&q=zebra") == ["30", "7"]
    assert shown(served, "/?show=bad") == []


def test_a_pair_by_its_link_and_its_neighbours(served: TestClient) -> None:
    page = served.get("/pair/30?q=zebra&at=1").text
    assert 'rel="prev" href="/pair/7?q=zebra&amp;at=0"' in page
    assert 'rel="next"' not in page
    assert "id-30" in page
    assert "kitchen" in page
    alone = served.get("/pair/30").text
    assert 'rel="prev" href="/pair/29?at=29"' in alone
    assert 'rel="next" href="/pair/31?at=31"' in alone
    assert 'rel="next"' not in served.get("/pair/30?q=zebra&at=0").text  # not what stands there


def test_what_rows_say_is_escaped(served: TestClient) -> None:
    for address in ("/?q=zebra", "/pair/7", f"/?q={EVIL}"):
        page = served.get(address).text
        assert "<script>alert" not in page
        assert "<img src=x" not in page
    assert html.escape("<script>") in served.get("/pair/7").text.replace("<ins>", "").replace("</ins>", "")


def test_pictures(served: TestClient) -> None:
    whole, small = served.get("/image/3"), served.get("/image/3?small")
    assert whole.content == png(3)
    assert whole.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(small.content)).format == "JPEG"
    broken = served.get("/image/8")
    assert broken.headers["content-type"] == "image/svg+xml"
    assert "image_undecodable" in broken.text
    assert "image_undecodable" in served.get("/pair/8").text
    assert "sandbox" in broken.headers["content-security-policy"]


def test_files_that_are_no_pictures_are_not_served(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("secret words")
    write_lines(tmp_path / "data.jsonl", [row(0, image="notes.png"), row(1, image="../../../../etc/passwd")])
    served = client(open_set(str(tmp_path)))
    for number in (0, 1):
        for small in ("", "?small"):
            reply = served.get(f"/image/{number}{small}")
            assert reply.headers["content-type"] == "image/svg+xml"
            assert "secret" not in reply.text
            assert "root:" not in reply.text


@pytest.mark.parametrize(
    ("address", "status", "words"),
    [
        ("/pair/50", 404, "no such page"),
        ("/pair/-1", 404, "no such page"),
        ("/pair/..%2f..%2fetc", 404, "no such page"),
        ("/image/50", 404, "no such page"),
        ("/etc/passwd", 404, "no such page"),
        ("/?sort=best", 400, "sort is &#39;best&#39;; it can be gap, "),
        ("/?show=x", 400, "show is &#39;x&#39;"),
        ("/?gap=much", 400, "gap is &#39;much&#39;; it must be a number"),
        ("/?gap=nan", 400, "gap is &#39;nan&#39;"),
        ("/?page=0", 400, "page is &#39;0&#39;; it must be a whole number"),
        ("/pair/3?at=x", 400, "at is &#39;x&#39;"),
    ],
)
def test_wrong_addresses_are_told(served: TestClient, address: str, status: int, words: str) -> None:
    reply = served.get(address)
    assert reply.status_code == status
    assert words in reply.text


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", "127.0.0.1.nip.io", "", "[evil]"])
def test_other_host_names_are_refused(served: TestClient, host: str) -> None:
    assert served.get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "192.168.0.4:80"])
def test_own_host_names_are_served_with_a_policy(served: TestClient, host: str) -> None:
    reply = served.get("/", headers={"host": host})
    assert reply.status_code == 200
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1]
    assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    assert served.post("/").status_code == 405


def test_a_long_search_stops_and_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found_module, "SECONDS", 0.0)  # one row a look
    found = Found(open_set(str(path)), Query(q="zebra"))
    assert found.some(0, 20) == []
    assert (found.done, found.read) == (False, 1)
    served = client(open_set(str(path)))
    page = served.get("/?q=zebra").text
    assert "Looked through 2% of the set so far" in page
    assert "Nothing matches so far." in page
    for _ in range(60):
        page = served.get("/?q=zebra").text
    assert ids(page) == ["7", "30"]
    assert "so far" not in page


def test_feedback_shows_kept_pairs_first_and_reasons(tmp_path: Path) -> None:
    served = client(open_set(str(feedback(tmp_path)), str(tmp_path)))
    page = served.get("/").text
    kept = ids(page)
    assert kept
    assert page.count('<span class="badge">kept</span>') == len(kept)
    assert "pairs over the cap" in page
    dropped = served.get("/?show=dropped").text
    assert not set(ids(dropped)) & set(kept)
    over = served.get(f"/pair/{ids(served.get('/?show=cap').text)[0]}").text
    assert "Why it was left out: over the cap" in over
    assert "not drawn" in over
    assert "All answers to this question" in over
    assert "p(yes)" in over


def test_words_that_differ() -> None:
    one, other = differences("A red cup, on a table.\nNew", "A blue cup on a big table.\nNew")
    assert [text for text, marked in one if marked] == ["red", ","]
    assert [text for text, marked in other if marked] == ["blue", "big"]
    assert "".join(text for text, _ in one) == "A red cup, on a table.\nNew"
    one, other = differences("the old red bus", "the new green bus")
    assert one == [("the ", False), ("old red", True), (" bus", False)]
    assert differences("红色的杯子", "蓝色的杯子")[0][0] == ("红", True)
    looping = "yes no " * 3000
    assert "".join(text for text, _ in differences(looping, "no " + looping)[0]) == looping


def test_the_command_serves_until_it_is_interrupted(path: Path) -> None:
    command = [sys.executable, "-m", "rlaifv_jax.view", str(path), "--no-browser"]
    process = subprocess.Popen(command, cwd=world.ROOT, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    line = process.stderr.readline()
    address = re.search(r"http://127\.0\.0\.1:\d+/", line)
    assert address, line
    with urllib.request.urlopen(address[0], timeout=30) as reply:
        assert ids(reply.read().decode()) == numbers(*range(20))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert process.stderr.read() == "ended\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["nothing.parquet"],
            "error: there is no nothing.parquet; give pairs (Parquet, JSONL, a directory or glob of it) or the "
            "output_dir of rlaifv_jax.feedback, which of rounds is their round_1, round_2, …\n",
        ),
        (["DATA", "--port", "70000"], "error: --port is 70000; it must lie in 0 … 65535\n"),
        (["DATA", "--host", "no.such.host.invalid"], "error: cannot listen on no.such.host.invalid, port 0 ("),
    ],
)
def test_a_mistake_is_one_line(path: Path, given: list[str], message: str) -> None:
    arguments = [str(path) if one == "DATA" else one for one in given]
    done = world.run([sys.executable, "-m", "rlaifv_jax.view", *arguments, "--no-browser"])
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
