"""What is asked of the workers, all at once, and what they answer."""

from collections import Counter
from dataclasses import dataclass

from launch.cloud.places import Place
from launch.cloud.settings import Launch
from launch.cloud.shell import CommandFailed, Runner
from launch.cloud.stage import Stage
from rlaifv_jax.errors import UserError

# What worker/status.sh can say of a worker (its comment says what the words mean).
ENDED_WELL, MISTAKE, GAVE_UP, HALTED, STOPPED = "done", "mistake", "failed", "halted", "stopped"
UNPREPARED = "absent"
AT_WORK = ("running", "waiting", "starting")


class Unanswered(UserError):
    """Some workers have not said how they are doing."""


@dataclass(frozen=True)
class Worker:
    """state: a word of worker/status.sh. digest: of the archive that it has unpacked, '-' without one."""

    host: str
    state: str
    digest: str


def script(launch: Launch, name: str) -> str:
    return f"bash rlaifv/{launch.name}/worker/{name}.sh"


def setup(runner: Runner, place: Place, stage: Stage) -> None:
    """Copy the stage to every worker and install it; cheap where that has been done."""
    launch = place.launch
    runner.do(place.copy([stage.archive, *([stage.secrets] if stage.secrets else [])]))
    home = f"rlaifv/{launch.name}"
    unpack = f"mkdir -p {home} && tar -xzf {launch.name}.tar.gz -C {home} worker"
    runner.do(place.remote(f"{unpack} && {script(launch, 'setup')}", "all"))


def start(runner: Runner, place: Place, stage: Stage) -> None:
    """Start the command where it is not at work."""
    runner.do(place.remote(f"{script(place.launch, 'start')} {stage.digest}", "all"), 300)


def stop(runner: Runner, place: Place) -> None:
    runner.do(place.remote(script(place.launch, "stop"), "all"), place.launch.grace + 300)


def states(runner: Runner, place: Place) -> list[Worker]:
    """How every worker is doing.

    Raises:
      CommandFailed: one could not be reached.
      Unanswered: another one has said nothing.
    """
    launch = place.launch
    status = f"rlaifv/{launch.name}/worker/status.sh"
    look = f"if test -f {status}; then bash {status}; else echo launch $(hostname) {UNPREPARED} -; fi"
    answer = runner.ask(place.remote(look, "all"))
    found = parse(answer)
    if len(found) != launch.hosts:
        raise Unanswered(f"{len(found)} of {launch.hosts} workers have said how they are doing; try again")
    return found


def parse(answer: str) -> list[Worker]:
    """Lines `launch HOST STATE DIGEST`; what else a login prints is left aside."""
    lines = [line.split() for line in answer.splitlines()]
    return sorted((Worker(*line[1:]) for line in lines if len(line) == 4 and line[0] == "launch"), key=lambda w: w.host)


def summary(workers: list[Worker]) -> str:
    """E.g. '3 running, 1 waiting'."""
    return ", ".join(f"{count} {state}" for state, count in sorted(Counter(w.state for w in workers).items()))


def tail(runner: Runner, place: Place, lines: int, worker: str) -> str:
    return runner.ask(place.remote(f"tail -n {lines} rlaifv/{place.launch.name}/log", worker))


def last_words(runner: Runner, place: Place) -> str:
    """The end of every worker's log, as far as it can be had."""
    try:
        return tail(runner, place, 5, "all").rstrip()
    except CommandFailed as failed:
        return f"(the logs cannot be read: {failed})"
