"""A request on its way through the threads that own the devices."""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.settings import Sampling


@dataclass(frozen=True)
class Token:
    """What was said at one place. likely: (id, log-probability) of the likeliest there, best first."""

    id: int
    logprob: float
    likely: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Piece:
    """More of an answer. text: what follows. reason: 'stop' or 'length' in the last piece. count: tokens so far. told:
    new tokens, where log-probabilities are wanted. cached: whether the prompt was computed before."""

    index: int
    text: str
    count: int
    reason: str | None = None
    told: tuple[Token, ...] = ()
    cached: bool = False


class Lost(Exception):
    """What a job is told instead of an answer when the devices fail; one line."""


@dataclass
class Job:
    """samples: answers that are wanted. seed: of draws. tells: how many of the likeliest tokens are told, None: no
    log-probabilities. streams: whether pieces are wanted before an answer is whole. emit: takes pieces, from another
    thread."""

    prompt: Prompt
    settings: Sampling
    samples: int
    seed: int
    tells: int | None
    streams: bool
    emit: Callable[[Piece | Lost], None]
    cancelled: bool = False
    placed: int = 0  # answers that have a seat, or had one
    computed: Any = field(default=None, repr=False)  # Computed, while more answers will need it

    def key(self, index: int) -> np.ndarray:
        """uint32[2]: of the draws of an answer."""
        return Prompt(self.prompt.encoded, None, f"answer {index}").key(self.seed)


class Worker(threading.Thread):
    """A thread that jobs are given to. What `waiting` and `_stops` hold changes under `_changed` alone."""

    def __init__(self, name: str):
        super().__init__(name=name, daemon=True)
        self.waiting: deque[Job] = deque()
        self._stops = False
        self._changed = threading.Condition()

    def submit(self, job: Job) -> None:
        with self._changed:
            self.waiting.append(job)
            self._changed.notify()

    def stop(self) -> None:
        """Ends the thread behind what it is doing; nobody is answered any more."""
        with self._changed:
            self._stops = True
            self._changed.notify()
