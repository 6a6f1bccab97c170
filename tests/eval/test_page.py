"""The page of a run: what it says, and how it behaves in a browser."""

import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from eval.cards import label
from eval.page import write_page
from rlaifv_jax.errors import UserError
from rlaifv_jax.pages import number, render
from tests.eval.browser import chromium, opened

ASKED = "judge-large"
SCORES: dict[str, Any] = {
    "benchmark": "mmhal",
    "title": "MMHal-Bench",
    "mode": "compat",
    "judge": {"kind": "server", "model": ASKED, "host": "api.example.com", "returned": [ASKED]},
    "extractor": "lexicon-1",
    "extractor_is_reference": False,
    "n": 4,
    "n_failed": 1,
    "metrics": {"Average score": 3.3645, "Hallucination rate": 36.458, "Cover": None, "CHAIR": 0.0421},
    "headline": ["Average score", "Hallucination rate"],
    "higher_is_better": {"Average score": True, "Hallucination rate": False},
    "intervals": {"Hallucination rate": [27.1, 45.8]},
    "runs": [],
    "spread": {},
    "hashes": {"data": "d" * 64, "answers": "a" * 64, "prompts": {"mmhal": "b" * 64}},
    "prompts": {"mmhal": "packaged"},
    "generation": {"model": "models/small", "temperature": 0.0, "append": ""},
    "notes": ["A note with <i>tags</i>."],
    "version": "0.1.0",
}


def item(id: str, answer: str = "A cat sits there.", **other: Any) -> dict[str, Any]:
    about = {"run": 0, "id": id, "category": "attribute", "question": "What is there?", "image": "", "image_id": ""}
    found = {"answer": answer, "values": {}, "counts": {}, "marked": [], "failed": "", "replies": []}
    return about | found | other


def reply(text: str, **other: Any) -> dict[str, Any]:
    return {"text": text, "model": ASKED, "error": "", "input_tokens": 9, "output_tokens": 2, "cached": True, **other}


EVIL = "<script>alert(1)</script> </script><!-- <img src=x onerror=alert(2)> The dog, the DOG and a hotdog; dogs."
ITEMS = [
    item("10", "A cat.", values={"score": 5, "hallucinated": False}, category="relation"),
    item("9", EVIL, values={"score": 1, "hallucinated": True}, marked=["dog", "unicorn"], replies=[reply("<b>1</b>")]),
    item("2", "Two very long sentences. One more of them is here.", failed="the judge said nothing", category="other"),
    item("1", "Red bus.", values={"score": 4, "hallucinated": False, "pairs": [{"a_b": True}, {"a_b": None}]}),
]


def run_of(folder: Path, items: list[dict[str, Any]], **scores: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "scores.json").write_text(json.dumps({**SCORES, **scores}))
    (folder / "items.jsonl").write_text("".join(json.dumps(one) + "\n" for one in items))
    return folder


def picture(width: int = 900, height: int = 600, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height)).save(stream, "PNG")
    return stream.getvalue()


def data_of(page: Path) -> list[dict[str, Any]]:
    return json.loads(page.read_text().partition('id="data">')[2].partition("</script>")[0])


# Without a browser


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"failed": "no reply", "marked": ["dog"]}, "failed"),
        ({"marked": ["dog"], "values": {"right": True}}, "hallucinated"),
        ({"values": {"hallucinated": True, "score": 6}}, "hallucinated"),
        ({"values": {"score": 2}}, "hallucinated"),
        ({"values": {"score": 3}}, "clean"),
        ({"values": {"score": 0}}, "hallucinated"),
        ({"values": {"hallucinated": False}}, "clean"),
        ({"values": {"right": False}}, "wrong"),
        ({"values": {"right": True}}, "right"),
        ({"values": {"winner": "A"}}, "scored"),
        ({"values": {"score": [8, 6]}}, "scored"),
        ({}, "scored"),
    ],
)
def test_label_of_an_item(found: dict[str, Any], expected: str) -> None:
    assert label(found) == expected


def test_an_answer_without_marks_is_clean_where_words_are_looked_for(tmp_path: Path) -> None:
    marking = data_of(write_page(run_of(tmp_path / "a", [item("1", marked=["cat"]), item("2")])))
    assert [one["label"] for one in marking] == ["hallucinated", "clean"]
    page = write_page(run_of(tmp_path / "b", [item("1"), item("2")]))
    assert {one["label"] for one in data_of(page)} == {""}
    assert "Verdict" not in page.read_text()


def test_numbers_for_people() -> None:
    shown = [number(value) for value in (None, float("nan"), 96, 37.5, 0.0421, 0.0, -2.5, True, "a/b")]
    assert shown == ["–", "–", "96", "37.50", "0.042", "0.00", "−2.50", "True", "a/b"]
    assert number(0.5, like=36.4) == "0.50"


def test_text_is_escaped() -> None:
    page = render("base.html.j2", title="<b>&", version="0")
    assert "<title>&lt;b&gt;&amp;</title>" in page
    assert "script-src 'none'" in page


def test_pictures_are_small_files_beside_the_page(tmp_path: Path) -> None:
    """base64, a path, one for two items, an address, no picture, and a file that is none."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/photo.png").write_bytes(picture())
    (tmp_path / "data/broken.png").write_bytes(b"no picture at all")
    (tmp_path / "data/questions.json").write_text("[]")
    text = base64.b64encode(picture(40, 900, "RGBA")).decode()
    images = [text, "photo.png", "photo.png", "https://example.com/a.jpg", "", "broken.png", "lost.png"]
    directory = run_of(tmp_path / "run", [item(str(place), image=image) for place, image in enumerate(images)])
    page = write_page(directory, tmp_path / "data/questions.json")
    cards = data_of(page)
    assert cards[1]["picture"] == cards[2]["picture"]
    assert [bool(card["picture"]) for card in cards] == [True, True, True, False, False, False, False]
    assert [card["missing"] for card in cards] == [False] * 5 + [True, True]
    assert cards[3]["link"] == images[3]
    assert "2 of 7 pictures could not be opened" in page.read_text()
    assert text not in page.read_text()
    names = {card["picture"] for card in cards[:3]}
    assert {file.name for file in (directory / "pictures").iterdir()} == names
    sizes = {name: Image.open(directory / "pictures" / name).size for name in names}
    assert sizes[cards[1]["picture"]] == (448, 299)
    assert sizes[cards[0]["picture"]] == (20, 448)


def test_no_relative_picture_without_a_data_folder(tmp_path: Path) -> None:
    (card,) = data_of(write_page(run_of(tmp_path, [item("1", image="scores.json")])))
    assert card["missing"]


def test_a_name_that_is_no_address_is_no_link(tmp_path: Path) -> None:
    (card,) = data_of(write_page(run_of(tmp_path, [item("1", image_id="javascript:alert(1)")])))
    assert card["link"] == ""


def test_not_a_number_and_half_a_character_are_no_obstacle(tmp_path: Path) -> None:
    directory = run_of(
        tmp_path, [item("1", "\ud800 half", counts={"a": float("nan"), "b": 0, "c": 1})], title="half \ud800"
    )
    page = write_page(directory)
    assert data_of(page)[0]["counts"] == {"c": 1}
    assert "<title>half ?</title>" in page.read_text()


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("scores.json", None, "scores.json cannot be read"),
        ("items.jsonl", None, "items.jsonl cannot be read"),
        ("items.jsonl", "{}\n{", "items.jsonl, line 2: is no JSON"),
        ("scores.json", "[]", "an object is needed"),
    ],
)
def test_files_that_are_missing_or_damaged(tmp_path: Path, file: str, text: str | None, words: str) -> None:
    directory = run_of(tmp_path, ITEMS)
    (directory / file).unlink() if text is None else (directory / file).write_text(text)
    with pytest.raises(UserError, match=words):
        write_page(directory)


# In Chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    image = base64.b64encode(picture()).decode()
    return write_page(run_of(folder, [{**ITEMS[0], "image": image}, *ITEMS[1:]]))


def ids(page: Any) -> list[str]:
    return page.locator(".card .about strong").all_inner_texts()


def card(page: Any, id: str) -> Any:
    return page.locator(f'.card[aria-label="Item {id}"]')


def test_the_top_says_what_was_measured_and_how(browser: Any, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        assert page.title() == "MMHal-Bench"
        assert page.locator(".lead").inner_text() == "4 items, 1 failed."
        assert page.locator(".tiles .value").all_inner_texts() == ["3.36", "36.46"]
        assert page.locator(".tiles .beside").all_inner_texts() == ["95 %: 27.10 to 45.80"]
        assert page.locator(".tiles .direction").all_inner_texts() == ["higher is better", "lower is better"]
        assert page.locator("tbody th").all_inner_texts() == ["Cover", "CHAIR"]
        assert page.locator("tbody td").all_inner_texts() == ["–", "0.042"]
        warnings = page.locator(".notice li").all_inner_texts()
        assert warnings == [
            "Nouns come from lexicon-1, not from the extractor of the published figures.",
            "A note with <i>tags</i>.",
        ]
        facts = page.locator(".columns .facts").inner_text()
        assert facts.count("Judge returned") == 1
        for text in (
            "compat",
            f"{ASKED} (1)",
            "api.example.com",
            "own wording",
            "model models/small, temperature 0.0",
            "d" * 12,
            "b" * 12,
        ):
            assert text in facts


def test_cards_hold_answer_marks_findings_and_replies(browser: Any, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        evil = card(page, "9")
        assert evil.locator(".answer").inner_text() == EVIL
        assert evil.locator("mark").all_inner_texts() == ["dog", "DOG"]
        assert "unicorn" in evil.locator(".told > .beside").inner_text()
        assert evil.locator(".badge").inner_text() == "hallucinated"
        assert evil.locator(".told > .facts").inner_text().split() == ["score", "1", "hallucinated", "yes"]
        assert page.locator("#main script, #main b, #main i, #main .answer img").count() == 0
        text = evil.locator(".reply .text")
        assert not text.is_visible()
        evil.locator("summary", has_text="Judge replies (1)").focus()
        page.keyboard.press("Enter")
        assert text.inner_text() == "<b>1</b>"
        assert "a b: yes" in card(page, "1").inner_text()
        assert "Failed: the judge said nothing" in card(page, "2").inner_text()
        loaded = card(page, "10").locator("img")
        loaded.scroll_into_view_if_needed()
        page.wait_for_function("image => image.complete && image.naturalWidth === 448", arg=loaded.element_handle())


def test_filters_search_and_sorting_count_and_stand_in_the_address(browser: Any, page_file: Path) -> None:
    with opened(browser, page_file) as page:
        shown = page.locator("#shown")
        assert ids(page) == ["1", "2", "9", "10"]
        assert page.locator("fieldset").inner_text().split("\n")[1:] == [
            *("all (4)", "hallucinated (1)", "clean (2)", "failed (1)")
        ]
        page.get_by_label("clean").check(force=True)
        assert (ids(page), shown.inner_text()) == (["1", "10"], "2 of 4")
        assert page.locator("select[name=category] option").all_inner_texts() == [
            *("All (2)", "attribute (1)", "other (0)", "relation (1)")
        ]
        page.get_by_label("Category").select_option("relation")
        assert ids(page) == ["10"]
        assert page.url.endswith("#category=relation&label=clean")
        page.get_by_role("button", name="Clear").click()
        assert (len(ids(page)), "#" in page.url) == (4, False)

        page.keyboard.press("/")
        page.keyboard.type("THE hotdog")
        assert ids(page) == ["9"]
        assert "q=THE+hotdog" in page.url
        page.get_by_label("Search").fill("nowhere")
        assert page.locator(".empty").is_visible()
        page.get_by_label("Search").fill("")

        orders = {"low": "9 1 10 2", "high": "10 1 9 2", "marked": "9 10 2 1", "long": "9 2 1 10", "short": "10 1 2 9"}
        for sort, order in orders.items():
            page.get_by_label("Sort by").select_option(sort)
            assert ids(page) == order.split()


def test_an_address_restores_the_view(browser: Any, page_file: Path) -> None:
    with opened(browser, page_file, "#q=s&label=failed&sort=long") as page:
        assert ids(page) == ["2"]
        assert page.get_by_label("Search").input_value() == "s"
        assert page.get_by_label("failed").is_checked()
        assert page.get_by_label("Sort by").input_value() == "long"
        page.evaluate("location.hash = '#category=relation'")
        page.wait_for_function("document.querySelectorAll('.card').length === 1")
        assert ids(page) == ["10"]
        page.evaluate("location.hash = '#main'")  # a link within the page leaves the list alone
        page.wait_for_timeout(100)
        assert ids(page) == ["10"]
    with opened(browser, page_file, "#label=nonsense&sort=<b>&other=1&page=99") as page:
        assert len(ids(page)) == 4


def test_runs_and_refused_metrics(browser: Any, tmp_path: Path) -> None:
    runs = [{"Average score": 3.0, "CHAIR": 0.04}, {"Average score": 3.5, "CHAIR": 0.05}]
    items = [item("1", run=run, replies=[reply("", model="other-model")]) for run in (0, 1)]
    file = write_page(run_of(tmp_path, items, runs=runs, spread={"Average score": 0.354}))
    with opened(browser, file) as page:
        assert "± 0.35 over 2 runs" in page.locator(".tiles").inner_text()
        row = page.locator("tbody tr").first.inner_text().split()
        assert row[-3:] == ["0.35", "3.00", "3.50"]
        assert f"{ASKED}; what answered called itself other-model." in page.locator(".notice").inner_text()
        page.get_by_label("Run").select_option("1")
        assert page.locator(".card .about").all_inner_texts() == ["1\nattribute · run 1"]
    with opened(browser, write_page(run_of(tmp_path, ITEMS, metrics={}))) as page:
        assert "There are no metrics: 1 of 4 items failed." in page.locator("#main").inner_text()
        assert page.locator("table, .tiles").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it(browser: Any, page_file: Path, scheme: str) -> None:
    with opened(browser, page_file, width=360, height=740, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = sum(int(part) for part in paper.removeprefix("rgb(").rstrip(")").split(",")) > 3 * 128
        assert light == (scheme == "light")


def test_1500_items_load_and_turn_quickly(browser: Any, tmp_path: Path) -> None:
    answer = "There is a dog beside the bicycle, and a frisbee on the grass. " * 8
    items = [
        item(str(place), f"{answer}{place}", marked=["dog"][: place % 2], values={"score": place % 7}, counts={"n": 1})
        for place in range(1500)
    ]
    file = write_page(run_of(tmp_path, items, n=1500))
    started = time.monotonic()
    with opened(browser, file) as page:
        page.locator(".card").first.wait_for()
        assert page.locator("#shown").inner_text() == "1500 of 1500"
        assert time.monotonic() - started < 5
        assert page.locator(".card").count() == 50
        page.get_by_role("button", name="Next").click()
        assert ids(page)[0] == "50"
        assert page.evaluate("document.activeElement.id") == "items-title"
        assert page.locator("#pages span").inner_text() == "Page 2 of 30"
        assert page.url.endswith("#page=2")
        took = page.evaluate(
            """() => {
                const search = document.querySelector('[name=q]');
                const started = performance.now();
                search.value = 'frisbee 777';
                search.dispatchEvent(new Event('input', { bubbles: true }));
                return performance.now() - started;
            }"""
        )
        assert ids(page) == ["777"]
        assert took < 500
        assert page.locator("#pages").is_hidden()
    with opened(browser, file, "#page=3") as page:
        assert ids(page)[0] == "100"
