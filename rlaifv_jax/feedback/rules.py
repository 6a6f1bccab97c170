"""Which answers make a preference pair: rules on verdicts and lengths, without files.

By default the rules of the original (utils/pair_construction.py, get_preference_pairs.py of RLAIF-V); the switches of
`Rules` mend what they do badly. A claim is accepted when P(yes) + P(Yes) is above P(no) + P(No), strictly.
"""

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from rlaifv_jax.errors import UserError

WORDS = ("yes", "Yes", "no", "No")  # that a labeler says, in the order of its records
Score = Callable[["Judged"], float]


@dataclass(frozen=True)
class Judged:
    """An answer and what the labeler said of its claims.

    group: ds_question_id as text. claims: its facts. verdicts: for every item of it the question and whether the claim
    was accepted. row: its place among all answers. picture: the same for answers about the same picture; a group that
    is a data set's name has several.
    """

    row: int
    group: str
    question: str
    answer: str
    claims: tuple[str, ...]
    verdicts: tuple[tuple[str, bool], ...]
    picture: str = ""

    @property
    def rejected(self) -> int:
        return sum(not accepted for _, accepted in self.verdicts)

    @property
    def consistent(self) -> bool:
        """Whether there are as many different questions as claims that are not empty: the original's only check.

        An answer that says the same twice fails it, as does one with fewer questions than claims.
        """
        return len({question for question, _ in self.verdicts}) == sum(claim != "" for claim in self.claims)


@dataclass(frozen=True)
class Pair:
    chosen: Judged
    rejected: Judged
    scores: tuple[float, float]

    @property
    def words(self) -> tuple[int, int]:
        """Lengths of chosen and rejected answer, between blanks."""
        return len(self.chosen.answer.split()), len(self.rejected.answer.split())


def margin(scores: Mapping[str, float]) -> float:
    """What speaks for yes less what speaks for no, of the probabilities of WORDS."""
    return (scores["yes"] + scores["Yes"]) - (scores["no"] + scores["No"])


def yes_chance(scores: Mapping[str, float]) -> float:
    """P(yes) of yes and no together; nan where a labeler gives neither any chance."""
    yes, no = scores["yes"] + scores["Yes"], scores["no"] + scores["No"]
    return yes / (yes + no) if yes + no else math.nan


def accepts(scores: Mapping[str, float]) -> bool:
    """Whether a labeler's probabilities accept the claim; a tie does not."""
    return margin(scores) > 0


def rejected_count(judged: Judged) -> float:
    """The original's score: minus the number of rejected claims, however many there are."""
    return 0.0 - judged.rejected


def claim_fraction(judged: Judged) -> float:
    """Minus the share of the claims that were rejected, so that a long answer may err as a short one may."""
    return 0.0 - judged.rejected / len(judged.verdicts)


SCORES: dict[str, Score] = {"rejected_count": rejected_count, "claim_fraction": claim_fraction}
CAPS = ("image", "question")
SMALLEST = 1e-9  # difference of scores below which they are equal, for fractions


@dataclass(frozen=True)
class Rules:
    """score: a key of SCORES. difference: of two scores, least for a pair. cap: most pairs that are kept, 0: all, of an
    'image' (all its questions together, as in the original) or of a 'question', by `cap_by`. consistent: leave out
    answers that are not `Judged.consistent`. seed: of the choice among more than `cap`.
    """

    score: str = "rejected_count"
    difference: float = 1.0
    cap: int = 2
    cap_by: str = "image"
    consistent: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise UserError(f"pairs.score is {self.score!r}; it can be {' or '.join(map(repr, SCORES))}")
        if self.cap_by not in CAPS:
            raise UserError(f"pairs.cap_by is {self.cap_by!r}; it can be {' or '.join(map(repr, CAPS))}")
        if not 0 < self.difference < math.inf:  # also catches nan
            raise UserError(f"pairs.difference is {self.difference}; it must be a number above 0")
        if self.cap < 0:
            raise UserError(f"pairs.cap is {self.cap}; it must be 0 (all) or more")


def make_pairs(judged: Sequence[Judged], rules: Rules, counts: Counter[str]) -> list[Pair]:
    """All pairs that the rules allow, those of a question in the order of its answers; then the cap.

    Args:
      judged: answers with verdicts, in any order. counts: gets what was found and what was left out.
    """
    questions: dict[tuple[str, str, str], list[Judged]] = defaultdict(list)
    for answer in judged:
        questions[answer.picture, answer.group, answer.question].append(answer)
    counts["questions with judged answers"] = len(questions)
    kept: dict[tuple[str, ...], list[Pair]] = defaultdict(list)
    for key, answers in questions.items():
        owner = key[:2] if rules.cap_by == "image" else key
        kept[owner] += _consistent(_of_question(answers, rules, counts), rules, counts)
    sampled = [pair for (_, *owner), pairs in kept.items() for pair in _sample(pairs, rules, "/".join(owner))]
    counts["pairs over the cap"] = sum(map(len, kept.values())) - len(sampled)
    return sampled


def _of_question(answers: Sequence[Judged], rules: Rules, counts: Counter[str]) -> Iterator[Pair]:
    score = SCORES[rules.score]
    scored = [(answer, score(answer)) for answer in answers]
    for (one, of_one), (other, of_other) in combinations(scored, 2):
        counts["combinations of two answers"] += 1
        if abs(of_one - of_other) < rules.difference - SMALLEST:
            counts["combinations with scores too alike"] += 1
        elif of_one > of_other:
            yield Pair(one, other, (of_one, of_other))
        else:
            yield Pair(other, one, (of_other, of_one))


def _consistent(pairs: Iterator[Pair], rules: Rules, counts: Counter[str]) -> Iterator[Pair]:
    for pair in pairs:
        if rules.consistent and not (pair.chosen.consistent and pair.rejected.consistent):
            counts["pairs whose verdicts do not cover the claims"] += 1
        else:
            yield pair


def _sample(pairs: list[Pair], rules: Rules, owner: str) -> list[Pair]:
    """Which are drawn depends on the seed and their owner alone."""
    if not rules.cap or len(pairs) <= rules.cap:
        return pairs
    drawn = random.Random(f"{rules.seed}/{owner}").sample(range(len(pairs)), rules.cap)
    return [pairs[place] for place in sorted(drawn)]
