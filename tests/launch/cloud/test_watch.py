"""A run that is kept going through preemptions, lost machines and complaints, on a cloud of directories."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.cloud.shell import CommandFailed
from rlaifv_jax.errors import UserError
from tests import world
from tests.launch.cloud import clouds

# A run of 6 steps that keeps its place in a bucket, one for all workers here.
STEPS = """
trap 'exit 0' TERM
file=$STUB/bucket.$WORKER
for ((step = $(cat "$file" 2>/dev/null || echo 0) + 1; step <= 6; step++)); do
  sleep 0.05
  if [[ -f $STUB/pause ]]; then touch "$STUB/paused.$WORKER"; while [[ -f $STUB/pause ]]; do sleep 0.02; done; fi
  echo "$step" >"$file"
  echo "$step" >>"$STUB/steps.$WORKER"
done
"""


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    made = clouds.Cloud(tmp_path, monkeypatch, hosts=2, command=STEPS)
    yield made
    made.end()


def two_hosts(folder, **settings):
    return clouds.launch(folder, **({"accelerator": "v4-16", "spot": True} | settings))


def test_from_nothing_to_the_end(cloud, tmp_path):
    cloud.plays("absent", "WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE")
    assert clouds.act("watch", two_hosts(tmp_path)) == 0
    assert cloud.verbs()[:2] == ["describe", "create"]
    for worker in range(2):
        assert (cloud.folder / f"steps.{worker}").read_text().split() == list("123456")


@pytest.mark.parametrize(("place", "taken"), [("queued", "SUSPENDED"), ("queued", "FAILED"), ("tpu_vm", "PREEMPTED")])
def test_after_a_preemption_it_goes_on_by_itself(cloud, tmp_path, place, taken, capsys):
    ready = "ACTIVE" if place == "queued" else "READY"
    (cloud.folder / "pause").touch()
    watch = world_process(tmp_path, place)
    for worker in range(2):
        until(cloud.folder / f"paused.{worker}")
    cloud.plays(*["SUSPENDING"] * (place == "queued"), taken)
    until_gone(cloud.home())
    (cloud.folder / "pause").unlink()
    out, said = watch.communicate(timeout=60)
    assert watch.returncode == 0, said
    assert f"was lost ({taken})" in said
    order = [verb for verb in cloud.verbs() if verb in ("create", "delete", "scp", "ssh setup", "ssh start")]
    once = ["create", "scp", "ssh setup", "ssh start"]
    assert order == [*once, "delete", *once]
    for worker in range(2):
        assert (cloud.folder / f"steps.{worker}").read_text().split() == list("123456")
    assert said.count(f"machines: {ready}") == 2
    assert out == ""


def test_the_watch_may_be_killed_and_started_again(cloud, tmp_path):
    (cloud.folder / "pause").touch()
    watch = world_process(tmp_path, "queued")
    for worker in range(2):
        until(cloud.folder / f"paused.{worker}")
    watch.kill()
    watch.wait()
    (cloud.folder / "pause").unlink()
    cloud.forget()
    assert clouds.act("watch", two_hosts(tmp_path)) == 0
    assert set(cloud.verbs()) <= {"describe", "ssh status"}


def test_a_worker_that_was_asked_to_stop_alone_brings_all_of_them_back(cloud, tmp_path):
    cloud.runs(f"[[ $WORKER == 0 ]] || exit 0\n{STEPS}")  # what the other one does once it has saved with it
    cloud.plays("ACTIVE")
    (cloud.folder / "pause").touch()
    of = two_hosts(tmp_path)
    clouds.act("setup", of)
    clouds.act("run", of)
    until(cloud.folder / "paused.0")
    pid = (cloud.home(0) / "rlaifv/tiny/pid").read_text()
    subprocess.run(["kill", "-TERM", pid.strip()], check=True)
    (cloud.folder / "pause").unlink()
    cloud.runs(STEPS)
    assert clouds.act("watch", of) == 0
    assert (cloud.folder / "steps.0").read_text().split()[-1] == "6"
    assert "ssh start" in cloud.verbs()


def test_no_capacity_is_tried_again_with_growing_pauses(cloud, tmp_path, capsys):
    cloud.refuses(*["ERROR: There is no more capacity in the zone"] * 3)
    assert clouds.act("watch", two_hosts(tmp_path, place="tpu_vm", watch__most=0.15)) == 0
    said = capsys.readouterr().err
    assert said.count("the zone; again in") == 3
    assert "(attempt 3 of 4)" in said
    assert cloud.verbs().count("create") == 4


def test_it_gives_up_when_nothing_helps(cloud, tmp_path, capsys):
    cloud.refuses(*["ERROR: RESOURCE_EXHAUSTED: Quota limit has been exceeded"] * 9)
    assert clouds.act("watch", two_hosts(tmp_path)) == 1
    assert cloud.verbs().count("create") == 5
    assert "given up after 4 attempts in a row" in capsys.readouterr().err


def test_a_request_that_always_fails_is_given_up(cloud, tmp_path, capsys):
    cloud.plays(*["absent", "FAILED"] * 9)
    assert clouds.act("watch", two_hosts(tmp_path)) == 1
    said = capsys.readouterr().err
    assert "FAILED no more capacity" in said
    assert "lost before the command had been at work" in said


@pytest.mark.parametrize("complaint", ["ERROR: PERMISSION_DENIED: no", "ERROR: INVALID_ARGUMENT: bad type"])
def test_what_no_attempt_can_mend_ends_it_at_once(cloud, tmp_path, complaint):
    cloud.refuses(complaint)
    with pytest.raises(CommandFailed, match=complaint[7:20]):
        clouds.act("watch", two_hosts(tmp_path))
    assert cloud.verbs().count("create") == 1


def test_a_mistake_in_the_command_ends_the_watch(cloud, tmp_path, capsys):
    cloud.runs('echo "error: data.path is not there" >&2; exit 2')
    of = two_hosts(tmp_path)
    assert clouds.act("watch", of) == 2
    said = capsys.readouterr().err
    assert "error: data.path is not there" in said
    assert "exit status 2" in said
    cloud.runs(STEPS)
    cloud.forget()
    assert clouds.act("watch", of) == 0  # it has been mended
    assert "create" not in cloud.verbs()


def test_a_command_that_breaks_off_again_and_again_ends_the_watch(cloud, tmp_path, capsys):
    cloud.runs('echo "Segmentation fault"; exit 139')
    assert clouds.act("watch", two_hosts(tmp_path, restarts=1)) == 1
    assert "Segmentation fault" in capsys.readouterr().err


def test_workers_that_cannot_be_reached_are_not_deleted(cloud, tmp_path, capsys):
    cloud.plays("ACTIVE")
    (cloud.folder / "silent").touch()
    assert clouds.act("watch", two_hosts(tmp_path)) == 1
    assert set(cloud.verbs()) == {"describe", "ssh status"}
    assert "Connection timed out" in capsys.readouterr().err


def test_workers_that_are_missing_are_not_taken_for_ready(cloud, tmp_path, capsys):
    cloud.plays("ACTIVE")
    assert clouds.act("watch", two_hosts(tmp_path, accelerator="v4-32")) == 1
    assert "2 of 4 workers have said how they are doing" in capsys.readouterr().err


def test_a_node_taken_while_its_request_says_active(cloud, tmp_path):
    cloud.plays("ACTIVE")
    complain = 'ERROR: (gcloud.x) This TPU has terminal state "PREEMPTED", so it cannot be used anymore.'
    stub = (cloud.bin / "gcloud").read_text()
    check = f'    if (STUB / "taken").exists():\n        (STUB / "taken").unlink()\n        fail({complain!r})\n'
    cloud.install("gcloud", stub.replace('    if (STUB / "silent")', check + '    if (STUB / "silent")'))
    (cloud.folder / "taken").touch()
    assert clouds.act("watch", two_hosts(tmp_path)) == 0
    assert cloud.verbs()[:5] == ["describe", "ssh status", "delete", "describe", "create"]


def test_stop_ends_the_watch_too(cloud, tmp_path, capsys):
    (cloud.folder / "pause").touch()
    watch = world_process(tmp_path, "queued")
    for worker in range(2):
        until(cloud.folder / f"paused.{worker}")
    clouds.act("stop", two_hosts(tmp_path))
    _, said = watch.communicate(timeout=60)
    assert watch.returncode == 0
    assert "stopped by hand" in said
    assert "delete" not in cloud.verbs()


def test_a_machine_somebody_has_stopped_stays(cloud, tmp_path):
    cloud.plays("STOPPED")
    with pytest.raises(UserError, match="somebody has stopped it"):
        clouds.act("watch", two_hosts(tmp_path, place="tpu_vm"))


@pytest.mark.parametrize("gives_back", [True, False])
def test_what_is_left_when_it_has_ended(cloud, tmp_path, gives_back, capsys):
    assert clouds.act("watch", two_hosts(tmp_path, watch__delete=gives_back)) == 0
    assert ("delete" in cloud.verbs()) == gives_back
    assert ("cost money" in capsys.readouterr().err) != gives_back


WATCH = """
import sys, pathlib
from tests.launch.cloud import clouds
from launch.cloud import stage
stage.PACKAGES = ("configs",)
folder = pathlib.Path(sys.argv[1])
sys.exit(clouds.act("watch", clouds.launch(folder, accelerator="v4-16", spot=True, place=sys.argv[2])))
"""


def world_process(folder: Path, place: str) -> subprocess.Popen[str]:
    """The same watch as a process of its own."""
    command = [sys.executable, "-c", WATCH, str(folder), place]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=world.ROOT, env=world.environment(), text=True, **pipes)


def until(file: Path) -> None:
    for _ in range(600):
        if file.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{file} is not there")


def until_gone(file: Path) -> None:
    for _ in range(600):
        if not file.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{file} is still there")
