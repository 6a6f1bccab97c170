"""What a benchmark is: questions, the examination of every answer, and metrics of sums over answers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from eval.judge.request import Judge, Reply

Mode = Literal["compat", "fixed"]
Sums = Mapping[str, Any]  # name → a float, or float64[resamples] of as many draws of the answers


@dataclass(frozen=True)
class Item:
    """One question.

    id: the benchmark's own, unique. image: base64, a path from the data's folder, or '' where the data has none.
    image_id: its name or address; also: other names that it has. category: for metrics by kind. reference: whatever the
    examination needs.
    """

    id: str
    question: str
    image: str = ""
    image_id: str = ""
    also: tuple[str, ...] = ()
    category: str = ""
    reference: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Row:
    """An answer and what was found out about it.

    values: JSON values, the findings; they stand in items.jsonl as they are. failed: why there are none; such a row is
    in no metric, and counted. marked: words of the answer that are hallucinated, as they stand there. replies: the
    judge's.
    """

    item: Item
    answer: str
    values: dict[str, Any] = field(default_factory=dict)
    failed: str = ""
    marked: list[str] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)


class Extractor(Protocol):
    """Finds nouns."""

    @property
    def name(self) -> str:
        """With its version."""

    @property
    def is_reference(self) -> bool:
        """Whether published figures were made with it."""


@dataclass(frozen=True)
class Tools:
    """What an examination may use. prompts: text of every judge stage, with {slots}. swap: ask a judge of two answers
    in both orders."""

    mode: Mode
    judge: Judge | None = None
    extractor: Extractor | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    swap: bool = False


class Benchmark(ABC):
    """name: as on the command line. title: for people. stages: what a judge is asked for, in order; () without one.
    optional_judge: whether it also works without. compares: whether it shows a judge two answers. extracts: whether it
    needs an extractor. headline: metrics that come first. higher_is_better: of every metric that has a direction.
    """

    name: str
    title: str
    stages: tuple[str, ...] = ()
    optional_judge: bool = False
    extracts: bool = False
    compares: bool = False
    headline: tuple[str, ...]
    higher_is_better: Mapping[str, bool]

    @abstractmethod
    def items(self, data: Path) -> list[Item]:
        """The questions in the folder or file of data.

        Raises:
          UserError: a file that is missing or is not what it should be.
        """

    @abstractmethod
    def examine(self, rows: Sequence[Row], tools: Tools) -> None:
        """Fill values, marked and replies of every row, or failed."""

    @abstractmethod
    def counts(self, row: Row) -> dict[str, float]:
        """What a row adds to the sums; the same names for every row."""

    @abstractmethod
    def metrics(self, sums: Sums, mode: Mode) -> dict[str, Any]:
        """Published names → values in percent where the field prints percent; nan where nothing can be said. Works on
        arrays of sums alike."""

    def notes(self, rows: Sequence[Row], tools: Tools) -> list[str]:
        """What whoever reads the figures has to know."""
        return []


def ratio(part: Any, whole: Any, factor: float = 1.0) -> Any:
    """factor · part ÷ whole, elementwise; nan where the whole is 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(whole != 0, factor * part / np.where(whole == 0, 1, whole), np.nan)
