"""The commands of the README and the pages: what stands in their blocks of bash, line by line."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.world import ROOT

PAGES = ("README.md", "README_zh.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """text: without comments and line ends. page, line: of its first word."""

    text: str
    page: str
    line: int

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(text: str) -> list[tuple[int, str]]:
    """(line of its first command, content) of every block of bash."""
    return [(text.count("\n", 0, found.start(1)) + 1, found[1]) for found in BLOCK.finditer(text)]


def without_comment(line: str) -> str:
    """A line of bash without what stands behind #. Quoted ones do not count."""
    lexer = shlex.shlex(line, posix=False, punctuation_chars=False)
    lexer.whitespace_split, lexer.commenters = True, "#"
    words = list(lexer)
    return line[: line.rindex(words[-1]) + len(words[-1])] if words else ""


def split(line: int, block: str) -> list[tuple[int, str]]:
    """Commands of a block, each with its line; `a && b` are two."""
    found, begun, text = [], line, ""
    for number, part in enumerate(block.splitlines(), line):
        begun = begun if text else number
        part = without_comment(part)
        if part.endswith("\\"):
            text += part[:-1]
            continue
        text += part
        found += [(begun, " ".join(each.split())) for each in text.split("&&") if each.strip()]
        text = ""
    assert not text, f"line {begun}: goes on behind its end"
    return found


def commands_of(page: Path) -> list[Command]:
    name = str(page.relative_to(ROOT))
    return [Command(text, name, n) for line, block in blocks(page.read_text()) for n, text in split(line, block)]


def all_commands() -> list[Command]:
    """Each text once, where it stands first."""
    found: dict[str, Command] = {}
    for page in PAGES:
        for command in commands_of(ROOT / page):
            found.setdefault(command.text, command)
    return list(found.values())
