"""The feedback stages' work on captions of shapes, by the grammar instead of a language model.

Named in configs as functions: rlaifv_jax.shapes.claims:split and rlaifv_jax.shapes.claims:ask.
"""

from collections.abc import Sequence

from rlaifv_jax.shapes import questions
from rlaifv_jax.shapes.captions import parse
from rlaifv_jax.shapes.questions import ask_if


def split(question: str, answer: str) -> list[str]:
    """A claim is a sentence."""
    return [f"{sentence} ." for part in answer.split(".") if (sentence := " ".join(part.split()))]


def ask(claims: Sequence[str]) -> list[str]:
    """The yes/no question of every claim; what is no sentence of this world is asked as it stands."""
    return [_ask(claim) for claim in claims]


def undivided(question: str, answer: str) -> list[str]:
    """For comparison: the whole answer as one claim."""
    return [answer]


def ask_whole(claims: Sequence[str]) -> list[str]:
    """One question about each whole answer."""
    return [questions.ask_whole(claim) for claim in claims]


def _ask(claim: str) -> str:
    things = parse(claim).claims
    return ask_if(things[0]) if things else f"is there {claim.removesuffix('.').strip()} ?"
