"""Which entries a search finds, without holding more of each than a number.

A set is read as far as a page needs it, and no longer than SECONDS at a time; whoever asks again goes on from there.
"""

import threading
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from urllib.parse import urlencode

import numpy as np

from rlaifv_jax.errors import UserError, shortened
from rlaifv_jax.view.entry import Entry, Set
from rlaifv_jax.view.why import DROPPED, FATES

PAGE = 20  # entries
SECONDS = 3.0  # that a search may take before it shows what it has

SORTS: dict[str, tuple[str, Callable[[Entry], float | None]]] = {  # least first
    "gap": ("largest score gap", lambda entry: None if entry.gap is None else -entry.gap),
    "small_gap": ("smallest score gap", lambda entry: entry.gap),
    "longer": ("chosen is longer", lambda entry: None if entry.longer is None else -entry.longer),
    "shorter": ("chosen is shorter", lambda entry: entry.longer),
    "long": ("longest chosen", lambda entry: -entry.sides[0].words if entry.sides else None),
    "short": ("shortest chosen", lambda entry: entry.sides[0].words if entry.sides else None),
}
LENGTHS: dict[str, tuple[str, Callable[[int], bool]]] = {
    "longer": ("chosen is longer", lambda words: words > 0),
    "shorter": ("chosen is shorter", lambda words: words < 0),
    "equal": ("as many words", lambda words: words == 0),
}


@dataclass(frozen=True)
class Query:
    """What is asked for; everything empty: all. show: a fate, 'dropped', or 'bad' for entries with a note. gap: the
    least difference of scores."""

    q: str = ""
    show: str = ""
    length: str = ""
    gap: str = ""
    sort: str = ""

    @classmethod
    def of(cls, given: Mapping[str, str], default: str = "") -> "Query":
        """From the parameters of an address. default: for `show`, where nothing is asked for. Raises `UserError`."""
        values = {field.name: given.get(field.name, "").strip() for field in fields(cls)}
        if "show" not in given:
            values["show"] = default
        legal = {"show": ("", "all", "dropped", "bad", *FATES), "length": ("", *LENGTHS), "sort": ("", *SORTS)}
        for name, choices in legal.items():
            if values[name] not in choices:
                known = ", ".join(filter(None, choices))
                raise UserError(f"{name} is {shortened(values[name])!r}; it can be {known}, or empty")
        try:
            if values["gap"] and not float(values["gap"]) >= 0:
                raise ValueError
        except ValueError:
            raise UserError(f"gap is {shortened(values['gap'])!r}; it must be a number of 0 or more") from None
        return cls(**values)

    @property
    def asks(self) -> bool:
        """Whether anything is left out, or put in another order."""
        return any((self.q, self.show not in ("", "all"), self.length, self.gap, self.sort))

    def address(self, **more: object) -> str:
        """The parameters of a link to the same."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return urlencode({name: value for name, value in {**given, **more}.items() if value not in ("", None)})

    def passes(self, entry: Entry) -> bool:
        fate = entry.fate.key if entry.fate else ""
        shown = {"": True, "all": True, "bad": bool(entry.note), "dropped": fate in DROPPED or bool(entry.note)}
        if not shown.get(self.show, fate == self.show):
            return False
        if self.length and not (entry.longer is not None and LENGTHS[self.length][1](entry.longer)):
            return False
        if self.gap and not (entry.gap is not None and entry.gap >= float(self.gap)):
            return False
        text = entry.text if self.q else ""
        return all(word in text for word in self.q.lower().split())


class Found:
    """The entries that a query finds, as far as they are known. Safe to use by several threads."""

    def __init__(self, of: Set, query: Query):
        self.set, self.query = of, query
        self.done = of.count is not None and not query.asks
        self.read = of.total if self.done else 0  # records that have been looked at
        self._coming = of.scan()
        self._addresses = array("q")
        self._keys = array("d")
        self._lock = threading.Lock()

    @property
    def known(self) -> int:
        """How many have been found by now."""
        return len(self._addresses) if self.set.count is None or self.query.asks else self.set.count

    def some(self, start: int, stop: int) -> list[int]:
        """Addresses of those from `start` to `stop`, or of as many as there are or as there was time to find. Where
        they are sorted, all are looked for first."""
        with self._lock:
            if not self.done:
                self._look(None if self.query.sort else stop + 1)
            if self.query.sort:
                order = np.argsort(np.asarray(self._keys), kind="stable")[start:stop]
                return [self._addresses[place] for place in order]
            if self.set.count is not None and not self.query.asks:
                return list(range(start, min(stop, self.set.count)))
            return list(self._addresses[start:stop])

    def _look(self, wanted: int | None) -> None:
        until = time.monotonic() + SECONDS
        key = SORTS[self.query.sort][1] if self.query.sort else None
        while wanted is None or len(self._addresses) < wanted:
            coming = next(self._coming, None)
            if coming is None:
                self.done, self.read = True, self.set.total
                return
            entry, self.read = coming
            if self.query.passes(entry):
                self._addresses.append(entry.address)
                if key:
                    value = key(entry)
                    self._keys.append(np.inf if value is None else value)
            if time.monotonic() > until:
                return
