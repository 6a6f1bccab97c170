"""The best of several answers, and how it was chosen."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean

from rlaifv_jax.chat import Chat
from rlaifv_jax.chat_page.claims import Claim, Labeler, Piece, located
from rlaifv_jax.chat_page.talk import Asked
from rlaifv_jax.data.finder import Pictures
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.best_of_n import reward
from rlaifv_jax.feedback.fields import Record
from rlaifv_jax.feedback.likelihood import Likelihood
from rlaifv_jax.feedback.reading import Reading
from rlaifv_jax.pages import render

MEAN, LOWEST, REWARD = "mean P(yes)", "lowest P(yes)", "DPO reward"
HOW = {
    MEAN: "whose claims the labeler believes most on average",
    LOWEST: "whose least believed claim the labeler believes most",
    REWARD: "with the highest DPO reward, that is, whose probability training has raised most for each token",
}
TEMPERATURE = 1.0  # of draws, where the settings draw nothing
SURE, UNSURE = 0.8, 0.5  # P(yes) from which a claim is believed, or may be true


@dataclass(frozen=True)
class Candidate:
    """number: in the order of drawing, from 1. reward: nats a token; None where it is not known."""

    number: int
    text: str
    claims: tuple[Claim, ...] = ()
    pieces: tuple[Piece, ...] = ()
    elsewhere: tuple[int, ...] = ()
    reward: float | None = None

    def value(self, by: str) -> float | None:
        """By which candidates are compared; None where it is not known."""
        if by == REWARD:
            return self.reward
        known = [claim.p for claim in self.claims if claim.p is not None]
        if not known or len(known) < len(self.claims):
            return None
        return fmean(known) if by == MEAN else min(known)


@dataclass(frozen=True)
class Choice:
    """candidates: best first; of equal ones the first drawn. by: a key of HOW."""

    question: str
    by: str
    candidates: tuple[Candidate, ...]

    @property
    def best(self) -> Candidate:
        return self.candidates[0]

    def html(self) -> str:
        return render("chat_candidates.html.j2", choice=self, how=HOW[self.by], sure=SURE, unsure=UNSURE)


class Chooser:
    """Draws answers of a model and chooses among them.

    labeler, reference: whoever is there; one is needed.
    """

    def __init__(self, chat: Chat, labeler: Labeler | None, reference: Chat | None, reading: Reading):
        self.chat, self.labeler, self.reference, self.reading = chat, labeler, reference, reading

    @property
    def ways(self) -> list[str]:
        return [MEAN, LOWEST] * bool(self.labeler) + [REWARD] * bool(self.reference)

    @cached_property
    def likelihoods(self) -> list[Likelihood]:
        """Of policy and reference, with weights of their own, loaded when they are first needed."""
        found = []
        for name, chat in (("policy", self.chat), ("reference", self.reference)):
            assert chat is not None
            one = Likelihood(name, "", self.reading, Pictures([None]))
            one.use(chat.speaker)
            found.append(one)
        return found

    def choose(self, asked: Asked, number: int, by: str, halt: threading.Event) -> Iterator[str | Choice]:
        """What is being done, and in the end the choice, which does not come where `halt` is set.

        Raises:
          UserError: as Chat.chat; a labeler has nothing to look at.
        """
        if self.labeler and by != REWARD and not asked.image:
            raise UserError("picture: there is none, by which the labeler could judge claims; put one there first")
        if halt.is_set():
            return
        settings = {**asked.settings, "num_beams": 1}
        settings["temperature"] = settings.get("temperature") or TEMPERATURE
        yield f"Writing {number} answers at temperature {settings['temperature']:g} …"
        history = asked.histories[0]
        texts = self.chat.draw(asked.image, asked.question, number, history=history, halt=halt.is_set, **settings)
        if halt.is_set():
            return
        found = [Candidate(place, text) for place, text in enumerate(texts, 1)]
        if self.labeler and asked.image:
            yield "The labeler looks at the claims …"
            claims = self.labeler.claims(Path(asked.image), asked.question, texts)
            found = [_judged(asked.question, one, of_one) for one, of_one in zip(found, claims, strict=True)]
        if halt.is_set():
            return
        if self.reference:
            yield "Policy and reference score the answers …"
            rewards = self.rewards(asked, texts)
            found = [replace(one, reward=value) for one, value in zip(found, rewards, strict=True)]
        if halt.is_set():
            return
        yield Choice(asked.question, by, tuple(sorted(found, key=lambda one: _order(one.value(by)))))

    def rewards(self, asked: Asked, texts: Sequence[str]) -> list[float | None]:
        """DPO's reward of every answer, see rlaifv_jax.feedback.best_of_n."""
        about: Record = {"question": asked.question, "history": asked.histories[0]}
        if asked.image:
            about["image"] = {"bytes": Path(asked.image).read_bytes(), "path": None}
        unit = [about | {"answer": text} for text in texts]
        scored = [dict(one.work([unit], set()))[0] for one in self.likelihoods]
        return [reward(each) for each in zip(*scored, strict=True)]


def _judged(question: str, candidate: Candidate, claims: Sequence[Claim]) -> Candidate:
    pieces, elsewhere = located(question, candidate.text, claims)
    return replace(candidate, claims=tuple(claims), pieces=tuple(pieces), elsewhere=tuple(elsewhere))


def _order(value: float | None) -> float:
    return float("inf") if value is None else -value
