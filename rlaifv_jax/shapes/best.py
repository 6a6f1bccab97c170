"""Best of N in the small world: many captions of a scene by one model, the best of them by another's rewards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaifv_jax.data.finder import Pictures
from rlaifv_jax.feedback.best_of_n import reward
from rlaifv_jax.feedback.fields import owner_of
from rlaifv_jax.feedback.likelihood import Likelihood
from rlaifv_jax.feedback.reading import Reading
from rlaifv_jax.feedback.stage import run
from rlaifv_jax.records.shards import read_shards
from rlaifv_jax.records.source import Input
from rlaifv_jax.shapes.heldout import MAX_NEW_TOKENS

NUMBERS = (1, 2, 4, 8, 16)  # N of the best of N


@dataclass(frozen=True)
class Captions:
    """Of scene s the captions texts[s], all as many, with the reward and the log-likelihood a token of each."""

    texts: list[list[str]]
    rewards: list[list[float]]
    likelihoods: list[list[float]]

    def best(self, number: int, by: str) -> list[str]:
        """The best of the first `number` captions of every scene. by: 'reward' or 'likelihood'."""
        values = self.rewards if by == "reward" else self.likelihoods
        places = [each.index(max(each[:number])) for each in values]
        return [said[place] for said, place in zip(self.texts, places, strict=True)]


def draw(folder: Path, speaker: Any, policy: Any, reference: Any, number: int, seed: int) -> Captions:
    """`number` captions of every scene of `folder`/questions.jsonl by `speaker` at temperature 1, scored.

    policy, reference: models of the reward; the likelihood is that of the reference.
    """
    from rlaifv_jax.generate import generate, parse_arguments

    output = folder / "candidates.jsonl"
    options = {
        "model": speaker,
        "questions": folder / "questions.jsonl",
        "output": output,
        "n": number,
        "temperature": 1.0,
        "max-new-tokens": MAX_NEW_TOKENS,
        "dtype": "float32",
        "seed": seed,
    }
    generate(parse_arguments([f"--{name}={value}" for name, value in options.items()]))
    source = Input(str(output), owner_of, 10_000)
    reading = Reading(dtype="float32", row_length=1024, longest_row=1024)
    for name, model in (("policy", policy), ("reference", reference)):
        run(Likelihood(name, str(model), reading, Pictures([str(folder)])), source, folder / name)
    records, scored = list(source), [list(read_shards(folder / name)) for name in ("policy", "reference")]
    rewards = [reward(each) for each in zip(*scored, strict=True)]
    likelihoods = [reward([one]) for one in scored[1]]

    def grouped(values: Sequence[Any]) -> list[list[Any]]:
        known = [float("-inf") if value is None else value for value in values]
        return [known[start : start + number] for start in range(0, len(known), number)]

    return Captions(grouped([record["answer"] for record in records]), grouped(rewards), grouped(likelihoods))
