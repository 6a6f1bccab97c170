"""One alignment round after the other: what each step reads and writes, and the file that knows what is done."""

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rlaifv_jax.config_keys import FREE_KEYS, check_config
from rlaifv_jax.config_values import check_computation
from rlaifv_jax.data.questions import Questions
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.functions import load_function
from rlaifv_jax.feedback.writers import DEVICES_AND_SERVERS
from rlaifv_jax.parallel import is_main
from rlaifv_jax.places import entries, remove_tree, whole
from rlaifv_jax.plan import make_plan
from rlaifv_jax.records.settings import write_whole
from rlaifv_jax.sampling.load import check_model
from rlaifv_jax.server_requests import PATIENCE

EXAMPLE = 1000  # pairs, to see whether there is anything to train
BY_LABELER = "rlaifv_jax.selection:by_labeler"

# Keys that may change between a run and its continuation: those that change no result beyond rounding.
FREE = (
    "output_dir",
    "rounds",
    "keep_weights",
    "feedback.image_folder",
    *(f"feedback.policy.{key}" for key in ("slots", "branches", "tensor")),
    *(f"feedback.{stage}.{key}" for stage in ("divide", "question") for key in DEVICES_AND_SERVERS),
    *(f"feedback.score.{key}" for key in ("tensor", *PATIENCE)),
    *(f"training.{key}" for key in FREE_KEYS),
)


def check(config: Any) -> None:
    """Values that cannot work, found before anything is done. Raises `UserError`."""
    from rlaifv_jax.feedback.chain import Feedback

    for key, value in (("model.path", config.model.path), ("questions", config.questions)):
        if not value:
            raise UserError(f"{key} is not set")
    for key, value, least in (("rounds", config.rounds, 1), ("questions_per_round", config.questions_per_round, 0)):
        if value < least:
            raise UserError(f"{key} is {value}; it must be {least} or more")
    if config.keep_weights not in ("all", "best"):
        raise UserError(f"keep_weights is {config.keep_weights!r}; it can be 'all' or 'best'")
    if config.training.train.objective != "dpo":
        raise UserError(f"training.train.objective is {config.training.train.objective!r}; rounds must be 'dpo'")
    if config.training.reference.path:
        raise UserError("training.reference.path is set; every round keeps reference log-probs of its own")
    if load_function(config.select.function, "select.function").name == BY_LABELER and not config.select.questions:
        raise UserError(
            "select.questions is not set; give questions that no round asks, or --config.select.function="
            "rlaifv_jax.selection:newest"
        )
    check_model(config.model.path, "model.path", sees=True)
    if config.feedback.policy.n < 2:
        raise UserError(f"feedback.policy.n is {config.feedback.policy.n}; a pair takes two answers")
    if config.select.max_new_tokens < 1:
        raise UserError(f"select.max_new_tokens is {config.select.max_new_tokens}; it must be 1 or more")
    feedback = config.feedback.copy_and_resolve_references()
    with feedback.unlocked():
        feedback.questions, feedback.policy.model, feedback.candidates = config.questions, config.model.path, ""
    try:
        Feedback(feedback).check()
    except UserError as error:
        raise UserError(f"feedback: {error}") from None
    try:
        check_computation(config.training)
        make_plan(config.training, EXAMPLE)
    except UserError as error:
        raise UserError(f"training: {error}") from None


class State:
    """state.json: the config, and for each round the seconds of its steps, its measurements and its choice.

    Args:
      write: False reads what is there and never writes.

    Raises:
      UserError: the directory holds rounds of another config.
    """

    def __init__(self, config: Any, *, write: bool):
        self.config, self.write = config, write
        self.output = whole(config.output_dir)
        self.file = self.output / "state.json"
        self.rounds: list[dict[str, Any]] = []
        plain = json.loads(json.dumps(config.to_dict()))
        if self.file.exists():
            try:
                there = json.loads(self.file.read_text())
                before, self.rounds = there["config"], there["rounds"]
                if not isinstance(before, dict) or not all(map(_is_account, self.rounds)):
                    raise ValueError
            except (OSError, ValueError, KeyError, TypeError):
                raise UserError(
                    f"{self.file} is damaged; choose another output_dir, or remove it to start again"
                ) from None
            way_out = "Choose another output_dir, or go back to what it was."
            check_config(before, plain, self.output, FREE, way_out)
        self.plain = plain

    def of(self, number: int) -> dict[str, Any]:
        """The account of a round (from 1)."""
        while len(self.rounds) < number:
            self.rounds.append({"seconds": {}, "measured": {}})
        return self.rounds[number - 1]

    def model_before(self, number: int) -> str:
        """What a round starts from."""
        return self.config.model.path if number == 1 else self.model_after(number - 1)

    def model_after(self, number: int) -> str:
        """What a finished round has chosen."""
        return str(self.output / f"round_{number}" / "train" / "weights" / str(self.rounds[number - 1]["chosen"]))

    def save(self) -> None:
        if self.write and is_main():
            self.output.mkdir(parents=True, exist_ok=True)
            write_whole(self.file, [json.dumps({"config": self.plain, "rounds": self.rounds}, indent=2) + "\n"])

    @contextmanager
    def timed(self, number: int, step: str) -> Iterator[None]:
        """Add the time of a step, once it has ended, to what earlier starts have noted of it."""
        started = time.perf_counter()
        yield
        seconds = self.of(number)["seconds"]
        seconds[step] = round(seconds.get(step, 0) + time.perf_counter() - started, 1)
        self.save()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_account(account: Any) -> bool:
    """Whether it is what `State` keeps of a round."""
    return (
        isinstance(account, dict)
        and all(isinstance(account.get(key), dict) for key in ("seconds", "measured"))
        and all(map(_is_number, account["seconds"].values()))
        and isinstance(account.get("chosen", 0), int)
    )


class Round:
    """One round; every step may be called again and does what is left of it."""

    def __init__(self, config: Any, number: int, state: State):
        self.config, self.number, self.state = config, number, state
        self.directory = state.output / f"round_{number}"
        self.account = state.of(number)
        self.stages = self._stages()

    @property
    def chosen(self) -> bool:
        return "chosen" in self.account

    def candidates(self) -> None:
        if not self.chosen:
            self._same_questions()
        self._step("candidates", self.stages.candidates)

    def _same_questions(self) -> None:
        """See that the rows that rounds before have asked are what they were, or this one would ask some again."""
        for number in range(1, self.number + 1) if self.config.questions_per_round else ():
            start, end = self.rows(number)
            asked = Questions(self.config.questions, start, end).fingerprint
            if self.state.of(number).setdefault("questions", asked) != asked:
                raise UserError(
                    f"questions: rows {start} to {end} of {self.config.questions} are not those that round {number} "
                    "has asked; bring them back (others may follow behind)"
                )

    def feedback(self) -> None:
        self._step("feedback", self.stages.judge)

    def train(self) -> None:
        from rlaifv_jax.clock import start_again
        from rlaifv_jax.train import train

        def begin() -> None:
            start_again()
            train(self.training())

        self._step("train", begin)

    def measure(self) -> None:
        """Every checkpoint that is not measured yet."""
        function = load_function(self.config.select.function, "select.function")

        def each() -> None:
            for model in self.checkpoints():
                if model.name in self.account["measured"]:
                    continue
                work = self.directory / "measured" / model.name
                found = function.call(model, work, self.config)
                if not isinstance(found, dict) or not all(map(_is_number, (found.get("score"), *found.values()))):
                    raise UserError(
                        f"select.function: {function.name} returned {found!r}; numbers with a 'score' are needed"
                    )
                self.account["measured"][model.name] = found
                self.state.save()

        self._step("measure", each)

    def choose(self) -> None:
        """The checkpoint with the highest score; of equal ones the latest."""
        if not self.chosen:
            measured = self.account["measured"]
            self.account["chosen"] = int(max(measured, key=lambda step: (measured[step]["score"], int(step))))
            self.state.save()
        if self.config.keep_weights == "best" and is_main():
            for model in self.checkpoints():
                if model.name != str(self.account["chosen"]):
                    remove_tree(model)

    def training(self) -> Any:
        """The config of this round's training."""
        config = self.config.training.copy_and_resolve_references()
        with config.unlocked():
            config.seed = self.config.seed + self.number
            config.model.path = self.state.model_before(self.number)
            config.model.vision_path = self.config.model.vision_path
            config.data.path = str(self.directory / "pairs")
            config.output_dir = str(self.directory / "train")
        return config

    def checkpoints(self) -> list[Path]:
        """Models that the training of this round has written, first to last."""
        return sorted(entries(self.directory / "train" / "weights"), key=lambda path: int(path.name))

    def rows(self, number: int) -> tuple[int, int]:
        """First and last + 1 row of the questions that a round asks; last -1: to the end."""
        count = self.config.questions_per_round
        return (0, -1) if not count else ((number - 1) * count, number * count)

    def _stages(self) -> Any:
        from rlaifv_jax.feedback.chain import Feedback

        config = self.config.feedback.copy_and_resolve_references()
        with config.unlocked():
            config.seed = self.config.seed + self.number
            config.output_dir = str(self.directory)
            config.questions, config.candidates = self.config.questions, ""
            config.start, config.end = self.rows(self.number)
            config.policy.model = self.state.model_before(self.number)
            config.policy.vision_path = self.config.model.vision_path
        return Feedback(config)

    def _step(self, name: str, work: Callable[[], None]) -> None:
        """A step of a round that has chosen already is not even looked at: its weights may be gone."""
        if self.chosen:
            return
        with self.state.timed(self.number, name):
            work()
