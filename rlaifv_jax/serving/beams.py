"""The thread of requests for beams, which answers one after the other by the engine (rlaifv_jax.sampling.engine).

Beams of a prompt see each other's keys and values, which seats do not, and their settings are compiled.
"""

import traceback
from typing import Any

from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.serving.counters import Counters
from rlaifv_jax.serving.jobs import Job, Lost, Piece, Worker


class _Cancelled(Exception):
    pass


class Beams(Worker):
    """cache: dtype of keys and values, see `Engine`."""

    def __init__(self, speaker: Speaker, counters: Counters, cache: str):
        super().__init__("beams")
        self.speaker, self.counters, self.cache = speaker, counters, cache
        self.busy = False

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
                self.counters.cancelled.inc()
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
            self.counters.completion_tokens.inc(len(answer.tokens))
            self.counters.answers.inc()
            job.emit(Piece(index, answer.text, len(answer.tokens), reason))
