"""SIGTERM and Ctrl-C: a run that is asked to end does so after a step, the same one in all processes.

The handlers are our own. JAX's preemption service hears SIGTERM only, only where processes are joined, and polls once a
second; here a lone process stops like a slice, and nothing is waited for: what processes have to agree on travels
beside the steps.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import FrameType

import jax
import numpy as np

from rlaifv_jax import parallel
from rlaifv_jax.cli import STOPPED
from rlaifv_jax.errors import Stopped
from rlaifv_jax.lockstep import Lockstep
from rlaifv_jax.watchdog import Watchdog

SAME_PRESS = 0.5  # seconds within which a second Ctrl-C is an echo of the first: wrappers pass on what groups get too
STATUS = {signal.SIGTERM: 0, signal.SIGINT: STOPPED}
NAMES = {signal.SIGTERM: "SIGTERM", signal.SIGINT: "Ctrl-C"}
ORDER = (None, signal.SIGTERM, signal.SIGINT)  # of what processes heard the last of these counts for all


class Stop:
    """Whether this run has been asked to end. Before and after loops over steps it ends at once, since files are whole
    or absent; within them (see `between_steps`) the loop asks after every step."""

    def __init__(self) -> None:
        self.heard: signal.Signals | None = None  # in this process
        self.reason: signal.Signals | None = None  # in any, as all of them know
        self.when = 0.0
        self.defers = False  # to the end of a step
        self.others: Lockstep | None = None
        self.watchdog: Watchdog | None = None  # of loops
        self.waited = np.zeros(1)  # seconds that each process waited for data; who reads them sets them back
        self.asked = False  # the others, who have not been heard yet

    @contextmanager
    def between_steps(self, mesh: jax.sharding.Mesh) -> Iterator[None]:
        """Around a loop that calls `ask` before and `agreed` after each step, all processes in the same order."""
        self.others = Lockstep(mesh) if jax.process_count() > 1 else None
        self.defers = True
        try:
            with self.watchdog.armed() if self.watchdog else nullcontext():
                yield
        finally:
            self.defers, self.others = False, None

    def ask(self, waited: float = 0.0) -> None:
        """Before a step: tell the others what was heard here and how long data was `waited` for, and the watchdog that
        this process goes on. Returns at once."""
        if self.watchdog:
            self.watchdog.beat()
        self.asked = True
        if self.others:
            self.others.tell(float(ORDER.index(self.heard)), waited)
        else:
            self.waited = self.waited + waited

    def agreed(self) -> bool:
        """Whether to end behind this step: the same answer in all processes. Waits for the step before this one."""
        if self.others is None:
            self.reason = self.heard
        elif self.asked:
            told = self.others.told()
            self.reason, self.waited, self.asked = ORDER[int(told[:, 0].max())], self.waited + told[:, 1], False
        return self.reason is not None

    def end(self, what: str) -> Stopped:
        """What to raise when everything is on disk. what: has been done, for the one who reads it."""
        assert self.reason is not None
        message = f"stopped by {NAMES[self.reason]}: {what}. Start the same command again to go on."
        return Stopped(message if parallel.is_main() else "", STATUS[self.reason])

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        first, self.heard = self.heard is None, self.heard or signal.Signals(number)
        if first:
            self.when = time.monotonic()
            if self.defers:
                _tell(f"{NAMES[self.heard]}: ending behind this step; a second Ctrl-C ends at once")
                return
        if first or (number == signal.SIGINT and time.monotonic() - self.when > SAME_PRESS):
            # Leaving in the ordinary way, JAX would have this process wait for the others.
            if jax.distributed.is_initialized() or not first:
                _tell(f"stopped by {NAMES[signal.Signals(number)]}. Start the same command again to go on.")
                os._exit(STATUS[signal.Signals(number)])
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise Stopped("stopped by SIGTERM before the first step. Start the same command again.", 0)


def _tell(message: str) -> None:
    """Say something where the interrupted code may be saying something: `print` cannot be entered twice."""
    os.write(2, f"\n{message}\n".encode())


@contextmanager
def orderly_stop() -> Iterator[Stop]:
    """SIGTERM and Ctrl-C are heard by the `Stop` that this yields; afterwards by whoever heard them before.

    Processes must have been joined before, since JAX then listens to SIGTERM itself.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to no other
        yield stop
        return
    before = {number: signal.signal(number, stop.handle) for number in STATUS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
