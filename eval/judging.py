"""A judge's verdicts, given to the rows they are about."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from eval.benchmark import Row
from eval.judge.request import Judge, Request
from rlaifv_jax.errors import UserError

T = TypeVar("T")


def judged(
    judge: Judge | None, asked: Iterable[tuple[Row, Request]], parse: Callable[[str], T | None]
) -> Iterator[tuple[Row, T]]:
    """(row, value) of every row that gets one. Replies are kept in the row; a row without a value has failed.

    Raises:
      UserError: there is no judge.
    """
    for (row, _), value in verdicts(judge, (((row, None), request) for row, request in asked), parse):
        yield row, value


def verdicts(
    judge: Judge | None, asked: Iterable[tuple[tuple[Row, Any], Request]], parse: Callable[[str], T | None]
) -> Iterator[tuple[tuple[Row, Any], T]]:
    """The same where a row is asked about several times: (row, which) stands for one request."""
    if judge is None:
        raise UserError("a judge is needed; see --judge-model and --judge-server in --help")
    for (row, which), verdict in judge.ask(asked, parse):
        row.replies.extend(verdict.replies)
        if verdict.value is None:
            row.failed = row.failed or verdict.error or "the judge gives no verdict"
        else:
            yield (row, which), verdict.value
