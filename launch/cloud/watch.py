"""Keeps a run going: creates what is not there, sets it up, starts the command, and all of it again when it was lost.

Nothing is remembered between two looks that could not be found out again, so the watch itself may be stopped and
started at any time, anywhere.
"""

import datetime
import re

from launch.cloud import lifecycle, workers
from launch.cloud.places import Phase, Place
from launch.cloud.shell import CommandFailed, Runner
from launch.cloud.stage import Stage
from launch.cloud.workers import AT_WORK, ENDED_WELL, GAVE_UP, HALTED, MISTAKE, STOPPED, UNPREPARED
from rlaifv_jax.cli import say

# What trying again does not mend.
FATAL = r"PERMISSION_DENIED|UNAUTHENTICATED|INVALID_ARGUMENT|unrecognized arguments|Reauthentication|active account"
TAKEN = r"terminal state"  # gcloud's words for a node that was preempted while its request still says ACTIVE
WRONG = 2  # exit status of gcloud for words it does not know, of the scripts in worker/ for a mistake


class Watch:
    """The loop. `run` returns the exit status: 0 the command has ended well on all workers, or was stopped by hand;
    1 given up; 2 the command says that its user has to mend something."""

    def __init__(self, runner: Runner, place: Place, stage: Stage):
        self.runner, self.place, self.stage, self.launch = runner, place, stage, place.launch
        self.failures = 0  # in a row
        self.fresh = False  # created by this loop, and the command has not been seen at work since
        self.started = False  # the command was started and has not been seen at work since
        self.begun = False  # this loop has started the command, or has seen it at work
        self.uneven = False  # at the last look some workers were at work and others not
        self.logged: dict[str, str] = {}

    def run(self) -> int:
        while True:
            try:
                status = self._look()
            except CommandFailed as failed:
                if failed.status == WRONG or re.search(FATAL, failed.said):
                    raise
                status = self._failed(str(failed))
            if status is not None:
                return status

    def _look(self) -> int | None:
        """One look, and what follows from it. An exit status, or None to go on."""
        standing = lifecycle.look(self.runner, self.place)
        self._log("machines", f"{standing.word} {standing.why}".strip())
        lifecycle.refuse_stopped(self.place, standing)
        if standing.phase is Phase.READY:
            return self._attend()
        if standing.phase is Phase.LOST:
            return self._lost(standing.word)
        if standing.phase is Phase.ABSENT:
            self.runner.do(self.place.create())
            self.fresh = True
            return None
        self.runner.wait(self.launch.watch_every)
        return None

    def _attend(self) -> int | None:
        """The machines are there: look after the command."""
        try:
            found = workers.states(self.runner, self.place)
        except workers.Unanswered as missing:
            return self._failed(str(missing))
        except CommandFailed as failed:
            if re.search(TAKEN, failed.said):
                return self._lost("preempted")
            raise
        states = {worker.state for worker in found}
        at_work = states & set(AT_WORK)
        self._log("workers", workers.summary(found))
        if states == {ENDED_WELL}:
            return self._done()
        if self.begun and states & {MISTAKE, GAVE_UP, HALTED}:
            return self._ended(states)
        current = {worker.digest for worker in found} == {self.stage.digest}
        if states == at_work:
            self.failures, self.fresh, self.uneven, self.started, self.begun = 0, False, False, False, True
            if not current:
                self._log("stage", "at work with other code or settings than these, which the next setup brings")
            self.runner.wait(self.launch.watch_every)
            return None
        if (at_work or states & {ENDED_WELL, STOPPED}) and not self.uneven:
            # A moment between two states; or machines are going down, and workers that stay have saved and left.
            self.uneven = True
            self.runner.wait(self.launch.watch_every)
            return None
        if self.started:
            self.started = False
            return self._failed(f"the command has not started on all workers ({workers.summary(found)})")
        if UNPREPARED in states or not (current or at_work):
            workers.setup(self.runner, self.place, self.stage)
        workers.start(self.runner, self.place, self.stage)
        self.uneven, self.started, self.begun = False, True, True
        return None

    def _lost(self, how: str) -> int | None:
        """Make room for new machines; the next look finds none and creates them."""
        say(f"{_now()} {self.launch.name} was lost ({how}); what is left of it is deleted")
        lifecycle.delete(self.runner, self.place)
        self.logged.clear()
        return self._failed("lost before the command had been at work") if self.fresh else None

    def _done(self) -> int:
        if self.launch.watch_delete:
            lifecycle.delete(self.runner, self.place)
        elif self.launch.place != "host":
            say(f"{_now()} {self.launch.name} has ended well; its machines cost money until you `delete` them")
        return 0

    def _ended(self, states: set[str]) -> int:
        if states & {MISTAKE, GAVE_UP}:
            say(workers.last_words(self.runner, self.place))
        if MISTAKE in states:
            say(f"{_now()} the command asks for something to be mended (exit status 2); then `watch` again")
            return 2
        if GAVE_UP in states:
            say(f"{_now()} the command broke off {self.launch.restarts + 1} times; `logs` shows more")
            return 1
        say(f"{_now()} stopped by hand; `run` or `watch` starts it again")
        return 0

    def _failed(self, what: str) -> int | None:
        """Wait before the next attempt, or give up: 1."""
        self.failures += 1
        if self.failures > self.launch.watch_attempts:
            say(f"{_now()} {what}; given up after {self.launch.watch_attempts} attempts in a row")
            return 1
        pause = min(self.launch.watch_every * 2 ** (self.failures - 1), self.launch.watch_most)
        say(f"{_now()} {what}; again in {pause:.0f} s (attempt {self.failures} of {self.launch.watch_attempts})")
        self.runner.wait(pause)
        return None

    def _log(self, topic: str, line: str) -> None:
        """What has changed since the last line about it."""
        if line != self.logged.get(topic):
            say(f"{_now()} {self.launch.name}, {topic}: {line}")
            self.logged[topic] = line


def _now() -> str:
    return datetime.datetime.now().strftime("%m-%d %H:%M:%S")
