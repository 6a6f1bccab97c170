"""The scripts that run on a worker, run here."""

import dataclasses
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from launch.cloud import stage
from launch.cloud.places import place
from launch.cloud.shell import CommandFailed, Shell
from launch.cloud.workers import parse, states
from tests.launch.cloud import clouds

HOSTILE = ("$(touch pwned)", "`touch pwned`", "'; touch pwned; '", 'a"b', "two\nlines", "-x", "*", "\\", "é $HOME")


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    made = clouds.Cloud(tmp_path, monkeypatch, hosts=1)
    made.plays("READY")
    yield made
    made.end()


def one_host(folder, **settings):
    """A launch on one TPU VM with no pause before a restart."""
    asked = {"place": "tpu_vm", "accelerator": "v5e-8", **settings}
    return dataclasses.replace(clouds.launch(folder, **asked), first_pause=0, most_pause=0)


def state(of, until=()):
    """What the worker says; waits until it is one of these."""
    for _ in range(200):
        (worker,) = states(Shell(), place(of))
        if not until or worker.state in until:
            return worker.state
        time.sleep(0.05)
    raise AssertionError(f"still {worker.state}")


def begin(of):
    clouds.act("setup", of)
    clouds.act("run", of)


def log(cloud) -> str:
    return (cloud.home() / "rlaifv/tiny/log").read_text()


def shellcheck(*files: Path) -> None:
    tool = Path(sys.executable).with_name("shellcheck")
    command = [str(tool) if tool.exists() else "shellcheck", "--external-sources", "--source-path=SCRIPTDIR"]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stdout + done.stderr


def test_the_scripts_pass_shellcheck(tmp_path):
    hostile = clouds.launch(
        tmp_path, overrides=tuple(f"data.path={text}" for text in HOSTILE), environment=("A=$(touch pwned)",)
    )
    rendered = tmp_path / "settings.sh"
    rendered.write_text(stage.settings(hostile))
    scripts = sorted(stage.WORKER.glob("*.sh"))
    assert len(scripts) == 8
    shellcheck(*scripts, rendered, Path(__file__).with_name("stub_uv.sh"))


def test_hostile_values_arrive_as_they_are(cloud, tmp_path):
    cloud.runs('printf "%s\\0" "$A" "$B" "$@" >"$STUB/arrived"')
    overrides = tuple(f"data.path={text}" for text in HOSTILE)
    of = one_host(tmp_path, overrides=overrides, arguments=HOSTILE, environment=(f"A={HOSTILE[0]}", f"B={HOSTILE[4]}"))
    begin(of)
    assert state(of, ("done",))
    *arrived, rest = (cloud.folder / "arrived").read_text().split("\0")
    assert arrived == [HOSTILE[0], HOSTILE[4], *of.command]
    assert rest == ""
    assert not list(cloud.folder.rglob("pwned"))
    assert not any(text in word for words in cloud.calls() for word in words for text in HOSTILE[:3])


def test_a_command_that_breaks_off_is_started_again(cloud, tmp_path):
    cloud.runs('echo x >>"$STUB/runs"; (($(wc -l <"$STUB/runs") > 2)) || exit 7')
    of = one_host(tmp_path)
    begin(of)
    assert state(of, ("done",))
    assert (cloud.folder / "runs").read_text() == "x\n" * 3
    assert log(cloud).count("waiting, exit status 7, again in 0 s") == 2


def test_a_mistake_is_not_tried_again(cloud, tmp_path):
    cloud.runs('echo x >>"$STUB/runs"; echo "error: no such file" >&2; exit 2')
    of = one_host(tmp_path)
    begin(of)
    assert state(of, ("mistake",))
    assert (cloud.folder / "runs").read_text() == "x\n"
    assert "error: no such file" in log(cloud)


def test_it_gives_up(cloud, tmp_path):
    cloud.runs('echo x >>"$STUB/runs"; exit 1')
    of = one_host(tmp_path, restarts=2)
    begin(of)
    assert state(of, ("failed",))
    assert (cloud.folder / "runs").read_text() == "x\n" * 3


def test_a_long_run_sets_the_count_back(cloud, tmp_path):
    cloud.runs('echo x >>"$STUB/runs"; (($(wc -l <"$STUB/runs") > 4)) || exit 1')
    of = dataclasses.replace(one_host(tmp_path, restarts=1), steady=0)
    begin(of)
    assert state(of, ("done",))


def test_sigterm_reaches_the_command_and_an_exit_0_after_it_is_no_end(cloud, tmp_path):
    cloud.runs('trap "echo saved >$STUB/saved; exit 0" TERM; echo up >"$STUB/up"; while true; do sleep 0.05; done')
    of = one_host(tmp_path)
    begin(of)
    wait_for(cloud.folder / "up")
    os.kill(int((cloud.home() / "rlaifv/tiny/pid").read_text()), signal.SIGTERM)
    assert state(of, ("stopped",))
    assert (cloud.folder / "saved").exists()
    cloud.runs("exit 0")
    clouds.act("run", of)
    assert state(of, ("done",))


def test_stop_ends_it_with_a_checkpoint_and_start_goes_on(cloud, tmp_path):
    cloud.runs('trap "echo saved >>$STUB/saved; exit 0" TERM; echo up >"$STUB/up"; while true; do sleep 0.05; done')
    of = one_host(tmp_path)
    begin(of)
    wait_for(cloud.folder / "up")
    clouds.act("stop", of)
    clouds.act("stop", of)
    assert state(of) == "halted"
    assert (cloud.folder / "saved").read_text() == "saved\n"
    clouds.act("run", of)
    assert state(of, ("running",))


def test_twice_is_once(cloud, tmp_path):
    cloud.runs('echo x >>"$STUB/runs"; exec sleep 30')
    of = one_host(tmp_path)
    clouds.act("setup", of)
    clouds.act("setup", of)
    assert (cloud.folder / "installs").read_text().count("uv venv") == 1
    clouds.act("run", of)
    wait_for(cloud.folder / "runs")
    clouds.act("setup", of)
    clouds.act("run", of)
    assert state(of) == "running"
    assert (cloud.folder / "runs").read_text() == "x\n"


def test_other_settings_wait_until_the_run_has_ended(cloud, tmp_path):
    cloud.runs("exec sleep 30")
    of, other = one_host(tmp_path), one_host(tmp_path, overrides=("train.steps=5",))
    begin(of)
    with pytest.raises(CommandFailed, match="at work with other settings; stop it first") as raised:
        clouds.act("setup", other)
    assert raised.value.status == 2
    with pytest.raises(CommandFailed, match="or with other settings; run setup first"):
        clouds.act("run", other)
    assert state(of) == "running"
    clouds.act("stop", of)
    clouds.act("setup", other)
    assert state(other) == "ready"


def test_what_a_command_leaves_behind_is_in_nobodys_way(cloud, tmp_path):
    cloud.runs("sleep 30 & exit 0")
    of = one_host(tmp_path, grace=1)
    begin(of)
    assert state(of, ("done",))
    cloud.runs('echo up >"$STUB/up"; trap "" TERM; while true; do sleep 0.05; done')
    clouds.act("run", of)
    wait_for(cloud.folder / "up")
    clouds.act("stop", of)
    assert state(of) == "halted"


def test_a_machine_that_was_switched_off_is_seen(cloud, tmp_path):
    cloud.runs("exec sleep 30")
    of = one_host(tmp_path)
    begin(of)
    assert state(of) == "running"
    os.killpg(int((cloud.home() / "rlaifv/tiny/pid").read_text()), signal.SIGKILL)
    assert state(of, ("dead",))
    clouds.act("run", of)
    assert state(of) == "running"


def test_an_installation_that_failed_is_done_again(cloud, tmp_path):
    of = one_host(tmp_path)
    cloud.install("uv", "#!/bin/sh\necho no network >&2; exit 1\n")
    with pytest.raises(CommandFailed, match="no network"):
        clouds.act("setup", of)
    assert state(of) == "absent"
    cloud.install("uv", (clouds.HERE / "stub_uv.sh").read_text())
    clouds.act("setup", of)
    assert state(of) == "ready"


def test_secrets_are_in_a_file_of_their_owner_alone(cloud, tmp_path, monkeypatch):
    value = "it's $(touch pwned) secret"
    monkeypatch.setenv("HF_TOKEN", value)
    cloud.runs('printf %s "$HF_TOKEN" >"$STUB/arrived"')
    of = one_host(tmp_path, secrets=("HF_TOKEN",))
    made = stage.make(of, write_secrets=True)
    assert made.secrets is not None
    assert made.secrets.stat().st_mode & 0o777 == 0o600
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(clouds.stage, "make", lambda *_, **__: made)
    begin(of)
    assert state(of, ("done",))
    assert (cloud.folder / "arrived").read_text() == value
    assert (cloud.home() / "rlaifv/tiny/secrets.sh").stat().st_mode & 0o777 == 0o600
    assert not any(value in word for words in cloud.calls() for word in words)
    with tarfile.open(made.archive) as archive:
        assert not any(value.encode() in archive.extractfile(entry).read() for entry in archive)


def test_an_image_gets_names_of_variables_not_their_values(cloud, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    cloud.install("docker", '#!/bin/sh\necho "$@" >>"$STUB/docker"\n')
    of = one_host(tmp_path, image="us-docker.pkg.dev/p/r/rlaifv:1", secrets=("HF_TOKEN",), environment=("A=b c",))
    begin(of)
    assert state(of, ("done",))
    asked = (cloud.folder / "docker").read_text()
    assert "login --username oauth2accesstoken --password-stdin https://us-docker.pkg.dev" in asked
    assert "pull us-docker.pkg.dev/p/r/rlaifv:1" in asked
    assert "--privileged --env A --env HF_TOKEN" in asked
    assert "us-docker.pkg.dev/p/r/rlaifv:1 python -m rlaifv_jax.train --config=configs/llava15.py" in asked
    assert "hf_abc" not in asked
    assert "b c" not in asked


@pytest.mark.parametrize(("body", "status"), [("exit 0", 0), ("exit 2", 2), ("exit 9", 9)])
def test_once_has_the_status_of_the_command(body, status):
    done = subprocess.run(["bash", stage.WORKER / "once.sh", "bash", "-c", body], check=False)
    assert done.returncode == status


def test_once_says_when_it_was_asked_to_stop(tmp_path):
    body = f'trap "echo saved >{tmp_path}/saved; exit 0" TERM; echo up >{tmp_path}/up; while true; do sleep 0.05; done'
    process = subprocess.Popen(["bash", stage.WORKER / "once.sh", "bash", "-c", body])
    wait_for(tmp_path / "up")
    process.terminate()
    assert process.wait(10) == 143
    assert (tmp_path / "saved").exists()


def test_the_archive_is_the_same_for_the_same(tmp_path):
    of = clouds.launch(tmp_path)
    first = stage.make(of, write_secrets=False)
    with tarfile.open(first.archive) as archive:
        names = archive.getnames()
    assert {"code/launch/cloud/worker/supervise.sh", "code/rlaifv_jax/train.py", "worker/setup.sh"} <= set(names)
    assert not any("__pycache__" in name for name in names)
    assert stage.make(of, write_secrets=False) == first
    assert stage.make(dataclasses.replace(of, grace=7), write_secrets=False).digest != first.digest


def test_what_a_login_prints_is_not_taken_for_an_answer():
    (worker,) = parse("Welcome to Ubuntu\nlaunch is near\nlaunch t1v-0 running abc\n")
    assert (worker.host, worker.state, worker.digest) == ("t1v-0", "running", "abc")


def wait_for(file: Path) -> None:
    for _ in range(200):
        if file.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{file} is not there")
