"""What each verb does, on the cloud or in rehearsal."""

from dataclasses import dataclass

from launch.cloud import lifecycle, workers
from launch.cloud.places import Phase, Place
from launch.cloud.shell import Runner
from launch.cloud.stage import Stage
from launch.cloud.watch import Watch
from rlaifv_jax.cli import say
from rlaifv_jax.errors import UserError

LOG_LINES = 100


@dataclass(frozen=True)
class Scene:
    """stage: for setup, run and watch. command: for ssh. worker: a number, 'all', or empty for the usual one."""

    runner: Runner
    place: Place
    stage: Stage | None
    command: str
    worker: str


def act(verb: str, scene: Scene) -> int:
    """The exit status."""
    runner, place = scene.runner, scene.place
    match verb:
        case "create":
            lifecycle.create(runner, place)
        case "setup":
            workers.setup(runner, _there(scene), _staged(scene))
        case "run":
            workers.start(runner, _there(scene), _staged(scene))
        case "watch":
            return Watch(runner, place, _staged(scene)).run()
        case "status":
            _status(scene)
        case "logs":
            print(workers.tail(runner, _there(scene), LOG_LINES, scene.worker or "0"), end="")
        case "ssh":
            runner.do(_there(scene).remote(scene.command, scene.worker or "all"))
        case "stop":
            workers.stop(runner, _there(scene))
        case "delete":
            if lifecycle.look(runner, place).phase is Phase.ABSENT:
                say(f"{place.launch.name} is not there")
            else:
                lifecycle.delete(runner, place)
        case _:
            raise ValueError(verb)
    return 0


def _there(scene: Scene) -> Place:
    """The place, once the machines are known to be there."""
    standing = lifecycle.look(scene.runner, scene.place)
    if standing.phase is not Phase.READY:
        name = scene.place.launch.name
        raise UserError(f"{name} is {standing.word}: create it and wait until it is there, or let `watch` do that")
    return scene.place


def _staged(scene: Scene) -> Stage:
    assert scene.stage
    return scene.stage


def _status(scene: Scene) -> None:
    name = scene.place.launch.name
    standing = lifecycle.look(scene.runner, scene.place)
    say(f"{name}: {standing.word} {standing.why}".rstrip())
    if standing.phase is Phase.READY:
        for worker in workers.states(scene.runner, scene.place):
            say(f"  {worker.host}: {worker.state}")
