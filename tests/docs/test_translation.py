"""README_zh.md keeps step with README.md: the same commands, headings, links, tables and numbers."""

import re

from tests.docs.commands import blocks, split
from tests.world import ROOT

ENGLISH, CHINESE = ((ROOT / name).read_text() for name in ("README.md", "README_zh.md"))
EACH_OTHER = {"README.md", "README_zh.md"}


def links(text: str) -> list[str]:
    return sorted(set(re.findall(r"\]\(([^)]+)\)", text)) - EACH_OTHER)


def test_commands_are_the_same() -> None:
    english, chinese = ([text for n, each in blocks(page) for _, text in split(n, each)] for page in (ENGLISH, CHINESE))
    assert english == chinese
    assert len(english) > 10


def test_other_blocks_are_the_same() -> None:
    fence = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
    english, chinese = ([each for each in fence.findall(page) if each[0] != "bash"] for page in (ENGLISH, CHINESE))
    assert english == chinese


def test_headings_are_as_many() -> None:
    english, chinese = (re.findall(r"^(#+) ", page, re.MULTILINE) for page in (ENGLISH, CHINESE))
    assert english == chinese


def test_links_are_the_same() -> None:
    assert links(ENGLISH) == links(CHINESE)
    for link in links(ENGLISH):
        page, _, _ = link.partition("#")
        assert "://" in link or (ROOT / page).exists(), link


def test_tables_are_as_long_and_tell_the_same_numbers() -> None:
    english, chinese = (
        [re.findall(r"\d[\d.,]*\d|\d", line) for line in page.splitlines() if line.startswith("|")]
        for page in (ENGLISH, CHINESE)
    )
    assert list(map(sorted, english)) == list(map(sorted, chinese))
    assert len(english) > 15


def test_each_names_the_other() -> None:
    assert "(README_zh.md)" in ENGLISH
    assert "(README.md)" in CHINESE
