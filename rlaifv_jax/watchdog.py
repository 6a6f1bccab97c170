"""A run that hangs: noticed by a thread, told with the stacks of all, and ended so that a launcher starts it again."""

import faulthandler
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from etils import epath

from rlaifv_jax.cli import say

HUNG = 75  # exit status: EX_TEMPFAIL of sysexits.h, try again
FIRST = 4  # times as long is given to the first step, in which much happens for the first time


class Watchdog:
    """Ends the process when, inside `armed`, nothing has called `beat` for `seconds`; 0: never. The stacks go to stderr
    and to a file in `directory`."""

    def __init__(self, seconds: float, directory: epath.Path):
        self.seconds, self.directory = seconds, directory
        self.beats, self.last = 0, 0.0

    def beat(self) -> None:
        self.beats, self.last = self.beats + 1, time.monotonic()

    @contextmanager
    def armed(self) -> Iterator[None]:
        if not self.seconds:
            yield
            return
        self.beats, self.last = 0, time.monotonic()
        over = threading.Event()
        thread = threading.Thread(target=self._watch, args=(over,), name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _watch(self, over: threading.Event) -> None:
        while not over.wait(min(self.seconds / 10, 10)):
            patience = self.seconds * (1 if self.beats > 1 else FIRST)
            if time.monotonic() - self.last > patience:
                self._end(patience)

    def _end(self, patience: float) -> None:
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file)
            file.seek(0)
            stacks = file.read()
        target = self.directory / f"hang-{socket.gethostname()}-{os.getpid()}.txt"

        def tell() -> None:
            sys.stderr.write(stacks)
            say(
                f"error: no step has ended for {patience:.0f} s; the stacks of all threads are in {target}. If "
                "steps, or writing to output_dir, may take so long, raise guard.hang_seconds."
            )
            target.write_text(stacks)

        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        telling.join(10)  # what hangs may be the disk
        os._exit(HUNG)
