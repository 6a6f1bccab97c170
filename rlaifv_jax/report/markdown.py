"""The report for a pull request: tables, and the figure as a file beside it."""

import re
from collections.abc import Iterator, Sequence

from rlaifv_jax import __version__
from rlaifv_jax.report.about import Table
from rlaifv_jax.report.contents import Contents


def as_markdown(contents: Contents, figure: str) -> str:
    """figure: name of the PNG file; '' where there is nothing to draw."""
    return "\n\n".join(_parts(contents, figure)) + "\n"


def _parts(contents: Contents, figure: str) -> Iterator[str]:
    yield f"# {_safe(contents.title)}"
    yield _safe(contents.lead)
    if contents.tiles:
        rows = [[tile.name, tile.value, tile.beside] for tile in contents.tiles]
        yield _table(["", "value", ""], rows)
    if figure:
        yield f"![Charts of the run]({figure})"
    if contents.checkpoints:
        yield "## Checkpoints"
        yield _written(contents.checkpoints)
    if found := contents.comparison:
        yield f"## Before and after: {_safe(found.before)} and {_safe(found.after)}"
        questions = found.fewer + found.more + found.same
        yield (
            f"Of {questions} questions that both have answered, {found.fewer} have fewer claims after that the labeler "
            f"doubts, {found.more} more, {found.same} as many."
        )
    if contents.evaluations:
        yield "## Evaluations"
        yield _written(contents.evaluations)
    if contents.filters:
        yield "## Pairs"
        rows = [[each.what, *("–" if n is None else f"{n:,}" for n in each.counts)] for each in contents.filters]
        yield _table(["", *contents.feedback], rows)
        if contents.means:
            yield _written(contents.means)
    if contents.bad_rows:
        yield "## Rows left out of training"
        yield _written(contents.bad_rows)
    for name, table in contents.times:
        yield f"## Time: {name.lower()}"
        yield _written(table)
    if contents.facts:
        yield "## Made with"
        yield _table(["", ""], contents.facts)
    for config in contents.configs:
        yield f"## Config: {_safe(config.name)}"
        if config.changed:
            yield _table(["key", "value", f"configs/{config.base}"], config.changed)
        else:
            yield f"Everything is as in configs/{config.base}."
    yield f"Made by rlaifv-jax {__version__}."


def _written(table: Table) -> str:
    return _table(table.heading, table.rows)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(map(_safe, line)) + " |" for line in lines)


def _safe(text: str) -> str:
    """Text that Markdown takes for text."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split())) if text != "---" else text
