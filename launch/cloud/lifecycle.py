"""Whether the machines are there, and how they come and go."""

from launch.cloud.places import Phase, Place, Standing, is_absent
from launch.cloud.shell import CommandFailed, Runner
from rlaifv_jax.cli import say
from rlaifv_jax.errors import UserError

DELETIONS = 3  # of one that does not go away


def look(runner: Runner, place: Place) -> Standing:
    """How the machines stand.

    Raises:
      CommandFailed: the cloud could not be asked.
      UserError: they are there under this name, but others than the config names.
    """
    words = place.describe()
    if words is None:
        return place.standing("")
    try:
        standing = place.standing(runner.ask(words))
    except CommandFailed as failed:
        if is_absent(failed.said):
            return Standing(Phase.ABSENT, "absent")
        raise
    wanted = place.launch.accelerator
    if wanted and standing.type and standing.type != wanted.type and standing.phase is not Phase.LOST:
        raise UserError(
            f"{place.launch.name} is there with {standing.type}, and the config says {wanted.type}; delete it, or "
            "choose another name"
        )
    return standing


def create(runner: Runner, place: Place) -> None:
    """Create the machines if they are not there; ones that were preempted are deleted first."""
    name = place.launch.name
    for _ in range(DELETIONS + 1):
        standing = _settled(runner, place)
        if standing.phase is Phase.ABSENT:
            runner.do(place.create())
            return
        if standing.phase in (Phase.READY, Phase.COMING):
            say(f"{name} is there already: {standing.word}")
            return
        say(f"{name}: {_said(standing)}; it is deleted and created again")
        delete(runner, place)
    raise UserError(f"{name} was deleted {DELETIONS} times and is still there; look at it in the console")


def delete(runner: Runner, place: Place) -> None:
    """Delete the machines if they are there."""
    try:
        runner.do(place.delete())
    except CommandFailed as failed:
        if not is_absent(failed.said):
            raise


def _settled(runner: Runner, place: Place) -> Standing:
    while (standing := look(runner, place)).phase is Phase.GOING:
        runner.wait(place.launch.watch_every)
    refuse_stopped(place, standing)
    return standing


def refuse_stopped(place: Place, standing: Standing) -> None:
    """A person's decision is not undone."""
    if standing.phase is Phase.STOPPED:
        raise UserError(
            f"{place.launch.name} is {standing.word}: somebody has stopped it. Start it with "
            f"`gcloud compute tpus tpu-vm start {place.launch.name}`, or delete it"
        )


def _said(standing: Standing) -> str:
    return f"{standing.word} ({standing.why})" if standing.why else standing.word
