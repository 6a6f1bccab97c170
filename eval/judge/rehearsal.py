"""A run without a single call, for --dry-run: what would be asked, and what that would cost."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from eval.benchmark import Benchmark, Row, Tools
from eval.judge.estimate import Estimate, Recalls, cost_of
from eval.judge.request import Request, Verdict

T = TypeVar("T")


class Rehearsal:
    """A judge that says what it remembers, and otherwise only counts."""

    def __init__(self, judge: Any, costs: dict[str, Estimate]):
        self.judge: Recalls = judge
        self.settings: Mapping[str, Any] = {}
        self.costs = costs  # by stage

    def in_round(self, number: int) -> "Rehearsal":
        judge: Any = self.judge
        return Rehearsal(judge.in_round(number), self.costs)

    def ask(
        self, asked: Iterable[tuple[Any, Request]], parse: Callable[[str], T | None]
    ) -> Iterator[tuple[Any, Verdict[T]]]:
        for tag, request in asked:
            trial = self.judge.trial(request, parse)
            self.costs[request.stage] = self.costs.get(request.stage, Estimate()) + cost_of(trial)
            yield tag, Verdict(trial.value, tuple(trial.replies), "not asked")


def rehearse(benchmark: Benchmark, rows: Iterable[Row], tools: Tools, repeat: int) -> list[str]:
    """Lines for the terminal."""
    if tools.judge is None:
        return [f"{benchmark.name}: no judge is asked"]
    costs: dict[str, Estimate] = {}
    judge, rows = Rehearsal(tools.judge, costs), list(rows)
    for number in range(repeat):
        again = [Row(row.item, row.answer) for row in rows if not row.failed]
        benchmark.examine(again, replace(tools, judge=judge.in_round(number)))
    lines = [f"{stage}: {cost}" for stage, cost in costs.items()]
    asked = [cost.calls + cost.known for cost in (costs.get(stage, Estimate()) for stage in benchmark.stages)]
    for stage, count in zip(benchmark.stages[1:], asked[1:], strict=True):
        if asked[0] > count:
            lines.append(f"{stage}: {asked[0] - count} calls, which follow from the replies to {benchmark.stages[0]}")
    return lines
