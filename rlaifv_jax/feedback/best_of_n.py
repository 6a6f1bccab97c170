"""Of several answers to a question the best one, by what training has changed in a model.

    reward        (log π(y|x) - log π_ref(y|x)) / T     T tokens of the answer y, its end token included
    likelihood    log π(y|x) / T                         minus the logarithm of its perplexity, for comparison

The first is DPO's own reward, normalised by length (arXiv 2405.17220, section on inference-time scaling; β does not
change who is best). All answers are branches of one prefix; policy and reference are loaded one after the other.

    DIR/policy, DIR/reference    log-probabilities of every answer     DIR/best    the record of the best answer
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from rlaifv_jax.cli import say
from rlaifv_jax.data.finder import Pictures
from rlaifv_jax.data.questions import Questions
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.by_question import ByQuestion
from rlaifv_jax.feedback.fields import Record, owner_of
from rlaifv_jax.feedback.likelihood import Likelihood, to_one_question
from rlaifv_jax.feedback.reading import Reading
from rlaifv_jax.feedback.stage import Tally, Unit, run, told
from rlaifv_jax.parallel import is_main
from rlaifv_jax.places import place, remove_tree
from rlaifv_jax.records.answer_file import is_complete, write_records
from rlaifv_jax.records.settings import wait_for
from rlaifv_jax.records.shards import read_shards
from rlaifv_jax.records.source import Input

WAYS = ("reward", "likelihood")
SHARD_ANSWERS = 1000  # where nobody says


@dataclass(frozen=True)
class BestOptions:
    """policy, reference: models; the reference is not needed for 'likelihood'. by: one of WAYS. n: the first n answers;
    0: all. reading: how the models read.
    """

    policy: str
    reference: str
    by: str
    n: int
    reading: Reading

    def __post_init__(self) -> None:
        if self.by not in WAYS:
            raise UserError(f"best_of_n.by is {self.by!r}; it can be {' or '.join(map(repr, WAYS))}")
        if not self.policy or (self.by == "reward" and not self.reference):
            raise UserError("best_of_n.policy and, for rewards, best_of_n.reference have to be set")
        if self.n < 0:
            raise UserError(f"best_of_n.n is {self.n}; it must be 0 (all) or more")
        self.reading.check("best_of_n")


def best_of_n(source: Input, directory: Path, options: BestOptions, pictures: Pictures) -> Path:
    """Choose among the answers of `source`; returns the directory of the best ones' records."""
    models = {"policy": options.policy} | ({"reference": options.reference} if options.by == "reward" else {})
    for name, model in models.items():
        run(Likelihood(name, model, options.reading, pictures), source, directory / name)
    values = {name: Input(str(directory / name), owner_of, 1) for name in models}
    run(Best(options, values), source, directory / "best")
    return directory / "best"


def choose_into(given: argparse.Namespace, candidates: str) -> None:
    """What `rlaifv_jax.generate --best-of` does once the candidates are there: OUTPUT gets the best ones' records."""
    output = place(given.output)
    reading = Reading(
        vision_path=given.vision_path or "",
        template=given.template or "",
        image_aspect_ratio=given.image_aspect_ratio,
        dtype=given.dtype or "",
        tensor=given.tensor,
    )
    options = BestOptions(given.policy or given.model, given.reference or "", given.best_by, 0, reading)
    source = Input(candidates, owner_of, SHARD_ANSWERS)
    settings = {
        "candidates": source.fingerprint,
        **{name: getattr(options, name) for name in ("policy", "reference", "by")},
        **reading.settings,
    }
    if is_complete(given.output, settings):
        say(f"{output} is complete; nothing to do (remove it to choose again)")
        return
    questions = Questions(given.questions)
    pictures = Pictures(
        [given.image_folder or None, questions.table.folder(0), *source.folders, ""], ByQuestion(questions)
    )
    directory = place(f"{output}.best")
    best = best_of_n(source, directory, options, pictures)
    if is_main():
        write_records(output, read_shards(best), settings)
        remove_tree(directory)
        say(f"{output}: the best of {given.best_of} answers to each question")
    wait_for(lambda: is_complete(given.output, settings), output)


@dataclass
class Best:
    """The best answer to every question. values: by model, one record for every answer. See `Stage`."""

    options: BestOptions
    values: Mapping[str, Input]

    name = "best_of_n"
    code: Sequence[ModuleType] = ()

    @property
    def settings(self) -> Mapping[str, Any]:
        used = {name: values.fingerprint for name, values in self.values.items()}
        return {"by": self.options.by, "n": self.options.n, **used}

    def load(self, source: Input) -> Mapping[str, Any]:
        return {}

    def units(self, shard: int, records: list[Record]) -> list[Unit]:
        scored = zip(records, *(values.read(shard) for values in self.values.values()), strict=True)
        together = [record | {"scored": list(found)} for record, *found in scored]
        return to_one_question(together)

    def work(self, units: Sequence[Unit], done: set[int]) -> Iterator[tuple[int, list[Record]]]:
        for number, unit in enumerate(units):
            if number not in done:
                yield number, [self._best(unit[: self.options.n or None])]

    def _best(self, unit: Unit) -> Record:
        rewards = [reward(record["scored"]) for record in unit]
        known = [value for value in rewards if value is not None]
        best = rewards.index(max(known)) if known else 0
        record = {key: value for key, value in unit[best].items() if key != "scored"}
        return record | {"best_of": len(unit), "best_by": self.options.by, "rewards": rewards}

    def summary(self, records: Iterable[Record]) -> Sequence[str]:
        counts = Tally()
        for record in records:
            counts["questions"] += 1
            counts["of which no answer could be scored"] += all(value is None for value in record["rewards"])
        return [f"the best answer to each of {counts['questions']} questions", *told("questions", counts)]


def reward(scored: Sequence[Mapping[str, Any]]) -> float | None:
    """Nats a token, of one answer, from its records under the policy and, for a reward, the reference.

    None where a model could not score it.
    """
    if any(found["log_prob"] is None for found in scored):
        return None
    policy, *reference = (found["log_prob"] for found in scored)
    return (policy - sum(reference)) / scored[0]["tokens"]
