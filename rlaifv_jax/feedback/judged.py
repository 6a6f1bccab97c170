"""Answers with claims and the labeler's feedback on them → answers that rules can compare."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.fields import Owner, Record, answer_of, find, owner_of, question_of, shortly, texts_of
from rlaifv_jax.feedback.rules import WORDS, Judged, accepts


@dataclass
class Answer:
    """An answer while its verdicts come in. row: among all answers. id: question_id as text. heard: how many verdicts
    and errors there have been. faulty: whether there was an error."""

    row: int
    id: str
    owner: Owner
    text: str
    claims: tuple[str, ...]
    verdicts: list[tuple[str, bool]] = field(default_factory=list)
    heard: int = 0
    faulty: bool = False

    def judged(self) -> Judged:
        """As the rules take it."""
        owner, verdicts = self.owner, tuple(self.verdicts)
        return Judged(self.row, owner.group, owner.question, self.text, self.claims, verdicts, owner.picture)


def judge(answers: Iterable[Record], feedback: Iterable[Record], counts: Counter[str]) -> list[Judged]:
    """Bring answers and verdicts together; counts gets what was found and what was left out.

    They are told apart by question_id; where that is not unique, by the text of the answer too, which feedback repeats;
    and where even that is not, they take verdicts in turn, each as many as it has claims. Answers of a question that is
    asked again later, after others, are left out, as in the original.

    Raises:
      UserError: an answer without a question or a text, or feedback without scores.
    """
    kept = read_answers(answers, counts)
    for _ in hear(kept, feedback, counts):
        pass
    counts["answers with a claim that has an error"] = sum(answer.faulty for answer in kept)
    counts["answers without verdicts"] = sum(not answer.heard for answer in kept)
    return [answer.judged() for answer in kept if answer.verdicts and not answer.faulty]


def hear(kept: Sequence[Answer], feedback: Iterable[Record], counts: Counter[str]) -> Iterator[tuple[Answer, Record]]:
    """Let answers have their verdicts, one after the other; yields each with the answer that it belongs to."""
    ids = Counter(answer.id for answer in kept)
    named: dict[tuple[str, str | None], list[Answer]] = defaultdict(list)
    for answer in kept:
        named[answer.id, None if ids[answer.id] == 1 else answer.text].append(answer)
    counts["answers with the number and text of another"] = len(kept) - len(named)
    for record in feedback:
        counts["claims"] += 1
        number = str(record.get("question_id"))
        same = named.get((number, None)) or named.get((number, find(record, "origin_answer")))
        if same is None:
            counts["claims about answers that are not there"] += 1
        else:
            owner = next((one for one in same if one.heard < len(one.claims)), same[-1])
            _hear(owner, record, counts)
            yield owner, record


def _hear(answer: Answer, record: Record, counts: Counter[str]) -> None:
    """One verdict on a claim of an answer."""
    answer.heard += 1
    if record.get("error"):
        counts["claims with an error"] += 1
        answer.faulty = True
        return
    scores = record.get("scores")
    if not isinstance(scores, Mapping) or not all(_is_probability(scores.get(word)) for word in WORDS):
        words = ", ".join(WORDS)
        raise UserError(
            f"pairs: feedback on question_id {answer.id} has scores {shortly(scores)}; those of {words} are needed"
        )
    accepted = accepts(scores)
    counts["claims that were rejected"] += not accepted
    answer.verdicts.append((question_of(record, "pairs: feedback"), accepted))


def _is_probability(value: Any) -> bool:
    """Up to rounding, which is that of 16 bits in the original."""
    return isinstance(value, int | float) and 0 <= value <= 1.01


def read_answers(records: Iterable[Record], counts: Counter[str]) -> list[Answer]:
    """Those that can be used."""
    kept: list[Answer] = []
    asked: set[Owner] = set()
    current: Owner | None = None
    for row, record in enumerate(records):
        counts["answers"] += 1
        where = f"answers, record {row}"
        key = owner_of(record)._replace(question=question_of(record, where))
        claims = () if record.get("facts") is None else tuple(texts_of(record, "facts", where))
        answer = Answer(row, str(record.get("question_id", row)), key, answer_of(record, where), claims)
        if key != current:
            if key in asked:
                counts["answers of a question that was asked before"] += 1
                continue
            asked.add(key)
            current = key
        kept.append(answer)
    return kept
