"""What a page shows of a pair, wherever it comes from."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol


class Unknown(Exception):
    """There is no entry with this address."""


@dataclass(frozen=True)
class Claim:
    """text: of the claim. question: what the labeler was asked. p: its P(yes), None where only a verdict is known.
    accepted: the verdict, None where there is none. error: why there is none."""

    text: str
    question: str = ""
    p: float | None = None
    accepted: bool | None = None
    error: str = ""


@dataclass(frozen=True)
class Side:
    """An answer. name: 'chosen', 'rejected' or 'answer'. score: by which it was chosen or not."""

    name: str
    text: str
    claims: tuple[Claim, ...] = ()
    score: float | None = None

    @property
    def words(self) -> int:
        """Between blanks, as the stage of pairs counts them."""
        return len(self.text.split())

    @property
    def rejected(self) -> int:
        return sum(claim.accepted is False for claim in self.claims)


@dataclass(frozen=True)
class Step:
    """A rule, what it found here, and whether the pair passed; None where it cannot be said."""

    rule: str
    found: str
    passed: bool | None


@dataclass(frozen=True)
class Fate:
    """What became of a pair. key: 'kept', or what it was dropped by, see `why.FATES`."""

    key: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Entry:
    """address: of the pair in its set. question: the last turn; before: the turns that come before it. sides: chosen
    and rejected, or one answer. facts: where it comes from. others: all else that the row holds, as text. note: why it
    cannot be used as it is."""

    address: int
    question: str
    sides: tuple[Side, ...]
    before: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    fate: Fate | None = None
    note: str = ""

    @property
    def gap(self) -> float | None:
        """Of the scores."""
        scores = [side.score for side in self.sides if side.score is not None]
        return scores[0] - scores[1] if len(scores) == 2 else None

    @property
    def longer(self) -> int | None:
        """Words that the chosen answer has more than the rejected one."""
        return self.sides[0].words - self.sides[1].words if len(self.sides) == 2 else None

    @property
    def text(self) -> str:
        """What is searched, in lower case."""
        return "\n".join([*self.before, self.question, *(side.text for side in self.sides)]).lower()


class Set(Protocol):
    """Entries that are read when they are asked for.

    name: for people. kind: of the data. about: facts on all of it. fates: keys of `Fate` that there are, with a count
    where that is known. count: of entries, whose addresses are then 0, 1, …; None where that takes reading them all.
    """

    name: str
    kind: str
    about: dict[str, str]
    fates: dict[str, int | None]

    @property
    def count(self) -> int | None: ...

    def scan(self) -> Iterator[tuple[Entry, int]]:
        """All entries in their order, each with how many records have been read by then."""

    @property
    def total(self) -> int:
        """Records that a whole scan reads."""

    def entry(self, address: int) -> Entry:
        """Raises `Unknown` where there is none."""

    def picture(self, address: int) -> bytes | None:
        """Encoded; None where none is named. Raises `BadRow` or `UserError`."""

    def siblings(self, address: int) -> list[Entry]:
        """All answers to the same question, each an entry of its own; none where that is not known."""

    def to_id(self, address: int) -> str:
        """How an entry is called in links."""

    def from_id(self, text: str) -> int:
        """Raises `Unknown` for what is no id."""
