"""How long a run is, and when it saves and evaluates, in steps."""

from dataclasses import dataclass
from typing import Any

from rlaifv_jax.errors import UserError


@dataclass(frozen=True)
class Plan:
    steps: int
    steps_per_epoch: float
    checkpoint_every: int
    eval_every: int

    def saves(self, step: int) -> bool:
        """Whether a checkpoint follows after `step` updates."""
        return step % self.checkpoint_every == 0 or step == self.steps

    def evaluates(self, step: int) -> bool:
        return step % self.eval_every == 0 or step == self.steps


def make_plan(config: Any, pairs: int) -> Plan:
    """Turn epochs and fractions of epochs into steps, for a data set of `pairs` rows."""
    per_epoch = pairs / config.train.batch_pairs
    if not config.train.steps and config.train.epochs <= 0:
        raise UserError("train.steps is 0 and train.epochs is not above 0: nothing to train; set one of them")
    steps = config.train.steps or max(1, round(config.train.epochs * per_epoch))
    every = config.checkpoint.every
    if every <= 0:
        raise UserError(f"checkpoint.every is {every}; give a number of steps, or a fraction of an epoch below 1")
    checkpoint_every = int(every) if every >= 1 else max(1, round(every * per_epoch))
    return Plan(steps, per_epoch, checkpoint_every, config.train.eval_every or checkpoint_every)
