"""Where the project raises a `UserError`, and what a good one says."""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.world import ROOT

PACKAGES = ("rlaifv_jax", "convert", "eval", "launch", "configs", "benchmarks")
LONGEST = 400  # characters of a template

# A line ends in what to do, or says what there may be. Words of both, as the messages have them.
ACTIONS = (
    "give|choose|set|remove|delete|write|install|start|use|leave|say|name|lower|bring|copy|fetch|download|run|see|try|raise|"
    "convert|look|mend|ask|build|score|put|export|go|pip|make|wait|check|update|restore|move|add|drop"
)
ALLOWED = (
    "can be|it must|must |needed|needs|expected|supported|one of|there is|there are|at most|knows|known|only|"
    "may be|between|takes|examples are"
)
TELLS = re.compile(rf"\b({ACTIONS})\b|{ALLOWED}", re.IGNORECASE)
# A setting, a flag, a file's or a config's name, a place in a file.
WHERE = re.compile(r"--\w|\w[._]\w|/\w|\brow\b|\brecord\b|\{|'\w+'|\d|^[\w-]+:|^(the judge's )?\w+ (is|are) ")
NO_WORDS = re.compile(r"Traceback|<class|object at 0x|\bassert|NoneType")
BARE = re.compile(r"\b(invalid|illegal|bad (value|input|file)|wrong|failed)\b", re.IGNORECASE)  # in our own words


@dataclass(frozen=True)
class Site:
    """A call of UserError. template: its text, what is filled in as {…}. lines: first and last."""

    file: str
    lines: tuple[int, int]
    template: str

    @property
    def name(self) -> str:
        return f"{self.file}: {self.template}"

    @property
    def passes_on(self) -> bool:
        """It is led by a place, and says what something else has said."""
        return not re.sub(r"\{[^{}]*\}|\w+$|^\w+(?=:)|[\s:;,()-]", "", self.template)

    def phrases(self) -> list[str]:
        """Three words in a row, of what is not filled in."""
        parts = [part.split() for part in re.split(r"\{[^{}]*\}", self.template)]
        return [" ".join(words[n : n + 3]) for words in parts for n in range(len(words) - 2)]


def text_of(node: ast.expr | None) -> str:
    """The text of an expression, {…} for what is known at run time."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else _filled(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return "{" + ast.unparse(node).replace("{", "").replace("}", "") + "}" if node else ""


def _filled(part: ast.expr) -> str:
    assert isinstance(part, ast.FormattedValue)
    return "{" + ast.unparse(part.value).replace("{", "").replace("}", "") + "}"


@cache
def nodes() -> tuple[tuple[str, ast.AST], ...]:
    """Everything that stands in the project's files."""
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return tuple(
        (str(file.relative_to(ROOT)), node) for file in files for node in ast.walk(ast.parse(file.read_text()))
    )


@cache
def makers() -> set[str]:
    """UserError, the classes that are made of it, and the functions that put a system's reason behind their text."""
    classes = (node for _, node in nodes() if isinstance(node, ast.ClassDef))
    made_of = {each.name for each in classes if any(getattr(base, "id", "") == "UserError" for base in each.bases)}
    return {"UserError", "refused", *made_of}


@cache
def sites() -> tuple[Site, ...]:
    """All of them."""
    found = []
    for file, node in nodes():
        if isinstance(node, ast.Call) and node.args and getattr(node.func, "id", "") in makers():
            behind = f" ({{reason}}); {text_of(node.args[2])}" if getattr(node.func, "id", "") == "refused" else ""
            lines = (node.lineno, node.end_lineno or node.lineno)
            found.append(Site(file, lines, text_of(node.args[0]) + behind))
    return tuple(found)


def site_at(file: str, line: int) -> Site | None:
    """The call that stands at a line of a file."""
    path = Path(file)
    name = str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else ""
    return next((site for site in sites() if site.file == name and site.lines[0] <= line <= site.lines[1]), None)


def faults(text: str, template: str = "") -> list[str]:
    """What is wrong with a message, or with a template."""
    shown = template or text
    found = []
    if "\n" in shown.strip():
        found.append("more than a line")
    if len(template) > LONGEST:
        found.append(f"longer than {LONGEST} characters")
    if NO_WORDS.search(shown) or BARE.search(re.sub(r"\{[^{}]*\}", "", template)):
        found.append("words of a traceback, or none that help")
    if not WHERE.search(shown):
        found.append("does not say where: no file, row, key, flag or value")
    if not TELLS.search(shown):
        found.append("does not say what to do, or what there may be")
    return found
