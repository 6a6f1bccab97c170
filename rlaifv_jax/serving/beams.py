"""The thread of requests for beams, which answers one after the other by the engine (rlaifv_jax.sampling.engine).

Beams of a prompt see each other's keys and values, which seats do not, and their settings are compiled.
"""

import threading
import traceback
from collections import deque
from typing import Any

from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.serving.counters import Counters
from rlaifv_jax.serving.jobs import Job, Lost, Piece


class _Cancelled(Exception):
    pass


class Beams(threading.Thread):
    """cache: dtype of keys and values, see `Engine`."""

    def __init__(self, speaker: Speaker, counters: Counters, cache: str):
        super().__init__(name="beams", daemon=True)
        self.speaker, self.counters, self.cache = speaker, counters, cache
        self.waiting: deque[Job] = deque()
        self.busy = self._stops = False
        self._changed = threading.Condition()

    def submit(self, job: Job) -> None:
        with self._changed:
            self.waiting.append(job)
            self._changed.notify()

    def stop(self) -> None:
        with self._changed:
            self._stops = True
            self._changed.notify()

    def run(self) -> None:
        while True:
            with self._changed:
                self.busy = False
                while not (self._stops or self.waiting):
                    self._changed.wait()
                if self._stops:
                    return
                job, self.busy = self.waiting.popleft(), True
            try:
                self._answer(job)
            except _Cancelled:
                self.counters.add("answers_cancelled_total")
            except Exception as error:  # memory, most likely
                traceback.print_exc()
                job.emit(Lost(f"the devices failed ({type(error).__name__}); ask again"))

    def _answer(self, job: Job) -> None:
        def watch(tag: Any, tokens: list[int]) -> None:
            if job.cancelled or self._stops:
                raise _Cancelled

        watch(None, [])
        engine = self.speaker.engine(job.settings, samples=job.samples, prompts=1, cache=self.cache, seed=job.seed)
        (found,) = engine.generate([job.prompt], watch=watch)
        for index, answer in enumerate(found.answers):
            reason = "stop" if answer.ended else "length"
            self.counters.add("completion_tokens_total", len(answer.tokens))
            self.counters.add("answers_total")
            job.emit(Piece(index, answer.text, len(answer.tokens), reason))
