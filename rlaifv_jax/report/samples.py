"""The same question answered before and after, and pairs as they were made: with pictures, and claims by p(yes)."""

import base64
import contextlib
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.finder import Pictures
from rlaifv_jax.data.questions import Questions
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.by_question import ByQuestion
from rlaifv_jax.feedback.fields import Owner, Record
from rlaifv_jax.pages.thumbnail import BROKEN, small
from rlaifv_jax.report.charts import evenly
from rlaifv_jax.report.feedback import Claim, Feedback, Said, texts_of

LONGEST = 288  # pixels of a picture's longer side
FEWER, MORE, SAME = 4, 2, 2  # samples whose after has fewer, more, as many doubted claims
PAIRS = 3  # shown


@dataclass(frozen=True)
class Side:
    """claims: in place of the text where they are all of it (`whole`)."""

    name: str
    text: str
    claims: Sequence[Claim]

    @property
    def whole(self) -> bool:
        return bool(self.claims) and " ".join(claim.text for claim in self.claims).split() == self.text.split()


@dataclass(frozen=True)
class Sample:
    """picture: a data: address, '' where there is none, or none that can be read."""

    question: str
    picture: str
    sides: tuple[Side, Side]


@dataclass(frozen=True)
class Comparison:
    """fewer, more, same: questions whose answer has fewer, more or as many doubted claims after as before."""

    before: str
    after: str
    fewer: int
    more: int
    same: int
    samples: Sequence[Sample]


def compare(found: Sequence[Feedback], pictures: "Finder") -> Comparison | None:
    """The first model and the last that has answered questions of the first; None where no question was answered by
    two models. Of several answers the first counts."""
    said: dict[str, dict[Owner, Said]] = defaultdict(dict)
    for each in found:
        for answer in each.answers:
            said[answer.model].setdefault(answer.owner, answer)
    models = sorted(said, key=_age)
    for first, before in enumerate(models):
        for after in reversed(models[first + 1 :]):
            if shared := [owner for owner in said[before] if owner in said[after]]:
                both = [(said[before][owner], said[after][owner]) for owner in shared]
                return _compared(both, model_name(before), model_name(after), pictures)
    return None


def _compared(both: Sequence[tuple[Said, Said]], before: str, after: str, pictures: "Finder") -> Comparison:
    fewer = [pair for pair in both if pair[1].doubted < pair[0].doubted]
    more = [pair for pair in both if pair[1].doubted > pair[0].doubted]
    same = [pair for pair in both if pair[1].doubted == pair[0].doubted]
    shown = [
        group[place]
        for group, most in ((fewer, FEWER), (more, MORE), (same, SAME))
        for place in evenly(len(group), most)
    ]
    samples = [
        Sample(
            one.owner.question,
            pictures.address(one.record),
            (Side(f"Before: {before}", one.text, one.claims), Side(f"After: {after}", other.text, other.claims)),
        )
        for one, other in shown
    ]
    return Comparison(before, after, len(fewer), len(more), len(same), samples)


def pair_samples(found: Feedback, pictures: "Finder") -> list[Sample]:
    """Some pairs, evenly from all whose claims were read, or from all where none were."""
    known = {(said.owner.question, said.text): said.claims for said in found.answers}
    texts = [texts_of(pair.record) for pair in found.pairs]
    places = [k for k, (question, *sides) in enumerate(texts) if all((question, side) in known for side in sides)]
    places = places or list(range(len(texts)))
    samples = []
    for place in (places[k] for k in evenly(len(places), PAIRS)):
        question, *sides = texts[place]
        chosen, rejected = (
            Side(name, text, known.get((question, text), ()))
            for name, text in zip(("Chosen", "Rejected"), sides, strict=True)
        )
        samples.append(Sample(question, pictures.address(found.pairs[place].record), (chosen, rejected)))
    return samples


CHECKPOINT = re.compile(r"(?:^|/)round_(\d+)/train/weights/(\d+)/?$")


def model_name(path: str) -> str:
    """For people: of a checkpoint of rounds which it is, of others the last two parts of their path."""
    if found := CHECKPOINT.search(path):
        return f"round {found[1]}, step {found[2]}"
    return "/".join(path.rstrip("/").split("/")[-2:]) or "no name"


def _age(path: str) -> tuple[int, int]:
    """What is no checkpoint of rounds comes before them."""
    found = CHECKPOINT.search(path)
    return (int(found[1]), int(found[2])) if found else (0, 0)


class Finder:
    """Pictures of records as data: addresses.

    folders: where relative paths may start. questions: files of questions, which are opened where a picture is missing.
    """

    def __init__(self, folders: Sequence[str], questions: Sequence[str] = ()):
        self.files = list(dict.fromkeys(filter(None, questions)))
        self.pictures = Pictures([*folders, ""], self._elsewhere)
        self.opened: list[ByQuestion] | None = None

    def address(self, record: Record) -> str:
        """'' where there is no picture, or none that can be read."""
        try:
            data = self.pictures.read(record)
            return "" if data is None else _address(data)
        except (BadRow, *BROKEN):
            return ""

    def _elsewhere(self, record: Record) -> bytes | None:
        if self.opened is None:
            self.opened = list(self._open())
        return next((data for by in self.opened if (data := by(record)) is not None), None)

    def _open(self) -> Iterator[ByQuestion]:
        for file in self.files:
            if not Path(file).exists():  # never a name that the hub would be asked about
                continue
            with contextlib.suppress(UserError, OSError):  # it may have been on another machine
                yield ByQuestion(Questions(file))


def _address(data: bytes) -> str:
    stream = io.BytesIO()
    small(data, LONGEST).save(stream, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
