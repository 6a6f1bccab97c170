"""The thread that owns the devices: jobs join as seats become free, and leave when they have been answered."""

import traceback
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaifv_jax import cli
from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.settings import Sampling
from rlaifv_jax.sampling.texts import Texts
from rlaifv_jax.serving.counters import Counters
from rlaifv_jax.serving.jobs import Job, Lost, Piece, Token, Worker
from rlaifv_jax.serving.prefixes import Prefixes, key_of
from rlaifv_jax.serving.slots import Seen, Slots

STEPS = 8  # between two looks: how long a new request waits for a seat that is free, and a stream for its next piece


@dataclass
class Seated:
    """An answer in its seat. count: of tokens that were looked at. told: of those passed on."""

    job: Job
    index: int
    texts: Texts
    cached: bool
    count: int = 0
    told: int = 0
    shown: str = ""


class Seating(Worker):
    """See above. template: of the model's conversations, which may know other ends of answers than tokens."""

    def __init__(self, slots: Slots, prefixes: Prefixes, counters: Counters, tokenizer: Any, template: Any):
        super().__init__("devices")
        self.slots, self.prefixes, self.counters = slots, prefixes, counters
        self.tokenizer, self.template = tokenizer, template
        self.seats: list[Seated | None] = [None] * slots.count
        self.left = np.zeros(slots.count, bool)  # seats whose answers the devices need not go on with
        self.healthy = True

    # ---- for other threads

    @property
    def running(self) -> int:
        """Seats that are taken."""
        return sum(seated is not None for seated in self.seats)

    def warm_up(self, prompts: list[Prompt]) -> None:
        """Before the thread starts: compile what prompts like these need."""
        for prompt in prompts:
            settings = Sampling(max_new_tokens=2)
            self.slots.place(self.slots.compute(prompt), 0, prompt.key(0), settings, tells=False)
            self.slots.advance(self.left, STEPS)
        self.slots.look(tells=True)
        self.slots.clear()

    # ---- the thread's own

    def run(self) -> None:
        while self._next():
            try:
                self._seat()
                self._advance()
            except Exception as error:  # devices that ran out of memory, or worse
                self._lose(error)

    def _next(self) -> bool:
        """Wait for work; False for the end."""
        with self._changed:
            while not (self._stops or self.waiting or self.running):
                self._changed.wait()
            return not self._stops

    def _seat(self) -> None:
        """Jobs take free seats in the order in which they came."""
        for seat, seated in enumerate(self.seats):
            if seated is not None and seated.job.cancelled:
                self._free(seat)
                self.counters.cancelled.inc()
        free = deque(seat for seat, seated in enumerate(self.seats) if seated is None)
        while free and self.waiting:
            job = self.waiting[0]
            cached = not job.cancelled and self._compute(job)
            if job.cancelled:
                self.waiting.popleft()
                continue
            seat, index = free.popleft(), job.placed
            self.slots.place(job.computed, seat, job.key(index), job.settings, tells=job.tells is not None)
            job.placed, self.left[seat] = job.placed + 1, False
            if job.placed == job.samples:
                job.computed = None  # its memory is that of others
                self.waiting.popleft()
            stop = (*job.settings.stop, *self.template.stop)
            self.seats[seat] = Seated(job, index, Texts(self.tokenizer, stop, self.template.lead), cached)

    def _compute(self, job: Job) -> bool:
        """The job's prompt, unless it has it; True if somebody had asked it before."""
        if job.computed is not None:
            self.counters.shared.inc()
            return False
        key = key_of(job.prompt)
        job.computed = self.prefixes.get(key)
        if job.computed is not None:
            self.counters.hits.inc()
            return True
        self.counters.misses.inc()
        try:
            job.computed = self.slots.compute(job.prompt)
        except Exception as error:  # this prompt's memory, most likely; the seats are as they were
            traceback.print_exc()
            job.cancelled = True
            job.emit(Lost(f"the prompt could not be computed ({_line(error)})"))
            return False
        self.prefixes.put(key, job.computed)
        return False

    def _advance(self) -> None:
        if not (self.running or self.left.any()):
            return
        self.slots.advance(self.left, STEPS)
        self.left[:] = False
        seen = self.slots.look(tells=any(seated is not None and seated.job.tells is not None for seated in self.seats))
        for seat, seated in enumerate(self.seats):
            if seated is not None and self._pass_on(seated, seat, seen):
                self._free(seat)
                self.counters.answers.inc()

    def _free(self, seat: int) -> None:
        self.seats[seat], self.left[seat] = None, True

    def _pass_on(self, seated: Seated, seat: int, seen: Seen) -> bool:
        """Tell a job what is new; True for the last of it."""
        job, texts = seated.job, seated.texts
        tokens = seen.tokens[seat, : seen.lengths[seat]].tolist()
        reason = None if seen.running[seat] else "stop"
        if texts.stopped(tokens):
            # How many tokens there are by now depends on when we looked; the answer must not.
            tokens = next(tokens[:n] for n in range(seated.count + 1, len(tokens) + 1) if texts.stopped(tokens[:n]))
            reason = "stop"
        elif reason and len(tokens) >= job.settings.max_new_tokens and tokens[-1] not in self.slots.program.rules.ends:
            reason = "length"
        self.counters.completion_tokens.inc(len(tokens) - seated.count)
        seated.count = len(tokens)
        if reason is None and not job.streams:
            return False
        text = texts.answer(tokens) if reason else texts.certain(tokens)
        more = text[len(seated.shown) :] if text.startswith(seated.shown) else ""
        told = self._told(seated, seat, seen, tokens)
        if reason or more or told:
            seated.shown += more
            job.emit(Piece(seated.index, more, len(tokens), reason, told, seated.cached))
        return reason is not None

    def _told(self, seated: Seated, seat: int, seen: Seen, tokens: list[int]) -> tuple[Token, ...]:
        most = seated.job.tells
        if most is None:
            return ()
        assert seen.logprobs is not None
        assert seen.top_tokens is not None
        assert seen.top_logprobs is not None
        new = range(seated.told, len(tokens))
        seated.told = len(tokens)
        return tuple(
            Token(
                tokens[n],
                float(seen.logprobs[seat, n]),
                tuple(
                    zip(
                        seen.top_tokens[seat, n, :most].tolist(),
                        seen.top_logprobs[seat, n, :most].tolist(),
                        strict=True,
                    )
                ),
            )
            for n in new
        )

    def _lose(self, error: Exception) -> None:
        """Tell everybody in a seat, and begin anew."""
        traceback.print_exc()
        lost = Lost(f"the devices failed ({_line(error)}); ask again")
        for seat, seated in enumerate(self.seats):
            if seated is not None and not seated.job.cancelled:
                seated.job.cancelled = True
                seated.job.emit(lost)
            self.seats[seat] = None
        try:
            self.prefixes.clear()
            self.slots.clear()
        except Exception:
            traceback.print_exc()
            self.healthy, self._stops = False, True
            cli.say("error: the devices cannot be used any more; start the server again")
            for job in [*self.waiting]:
                job.emit(lost)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
