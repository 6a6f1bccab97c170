"""What each verb asks of gcloud, word for word; twice is once; what gcloud complains of."""

import shlex
import subprocess
import sys

import pytest

from launch.cloud import stage
from launch.cloud.places import place
from launch.cloud.rehearsal import Rehearsal
from launch.cloud.shell import CommandFailed
from rlaifv_jax.errors import UserError
from tests import world
from tests.launch.cloud import clouds

WHERE = "--zone=us-west4-a --project=my-project --quiet"
SCOPES = "--scopes=https://www.googleapis.com/auth/cloud-platform"


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    made = clouds.Cloud(tmp_path, monkeypatch, hosts=4)
    yield made
    made.end()


def asked(cloud) -> list[str]:
    return [shlex.join(words) for words in cloud.calls()]


def test_create_asks_for_a_spot_slice_in_the_queue(cloud, tmp_path):
    clouds.act("create", clouds.launch(tmp_path, spot=True))
    assert asked(cloud) == [
        f"gcloud compute tpus queued-resources describe tiny --format=json {WHERE}",
        "gcloud compute tpus queued-resources create tiny --node-id=tiny --accelerator-type=v5litepod-16 "
        f"--runtime-version=v2-alpha-tpuv5-lite {SCOPES} --spot {WHERE}",
    ]


@pytest.mark.parametrize(
    ("name", "kind", "runtime"),
    [
        ("v4-32", "v4-32", "tpu-ubuntu2204-base"),
        ("v5e-4", "v5litepod-4", "v2-alpha-tpuv5-lite"),
        ("v5p-8", "v5p-8", "v2-alpha-tpuv5"),
        ("v6e-16", "v6e-16", "v2-alpha-tpuv6e"),
    ],
)
def test_create_of_a_tpu_vm_on_demand(cloud, tmp_path, name, kind, runtime):
    clouds.act("create", clouds.launch(tmp_path, place="tpu_vm", accelerator=name))
    assert asked(cloud)[1:] == [
        f"gcloud compute tpus tpu-vm create tiny --accelerator-type={kind} --version={runtime} {SCOPES} {WHERE}"
    ]


def test_create_with_everything(cloud, tmp_path):
    of = clouds.launch(
        tmp_path,
        project="",
        runtime="v2-nightly",
        network__network="net",
        network__subnetwork="sub",
        network__internal_ips=True,
        service_account="me@my-project.iam.gserviceaccount.com",
        create_flags=("--reserved",),
    )
    assert shlex.join(place(of).create()).endswith(
        f"--runtime-version=v2-nightly {SCOPES} --network=net --subnetwork=sub --internal-ips "
        "--service-account=me@my-project.iam.gserviceaccount.com --reserved --zone=us-west4-a --quiet"
    )
    assert place(of).remote("true", "all")[-3:] == ["--internal-ip", "--zone=us-west4-a", "--quiet"]


@pytest.mark.parametrize("word", ["ACTIVE", "WAITING_FOR_RESOURCES", "PROVISIONING", "SOME_LATER_STATE"])
def test_create_of_what_is_there_does_nothing(cloud, tmp_path, word):
    cloud.plays(word)
    clouds.act("create", clouds.launch(tmp_path))
    assert cloud.verbs() == ["describe"]


@pytest.mark.parametrize("word", ["SUSPENDED", "FAILED"])
def test_create_of_what_was_preempted_starts_afresh(cloud, tmp_path, word):
    cloud.plays(word, "SUSPENDING", "absent")
    clouds.act("create", clouds.launch(tmp_path))
    assert cloud.verbs() == ["describe", "delete", "describe", "describe", "create"]
    assert f"queued-resources delete tiny --force {WHERE}" in asked(cloud)[1]


def test_create_beside_another_slice_is_refused(cloud, tmp_path, monkeypatch):
    monkeypatch.setenv("STUB_TYPE", "v5litepod-8")
    cloud.plays("ACTIVE")
    with pytest.raises(UserError, match="tiny is there with v5litepod-8, and the config says v5litepod-16"):
        clouds.act("create", clouds.launch(tmp_path))


def test_a_stopped_machine_is_a_persons_decision(cloud, tmp_path):
    cloud.plays("STOPPED")
    with pytest.raises(UserError, match="somebody has stopped it"):
        clouds.act("create", clouds.launch(tmp_path, place="tpu_vm"))
    assert cloud.verbs() == ["describe"]


def test_delete_twice(cloud, tmp_path):
    of = clouds.launch(tmp_path)
    clouds.act("create", of)
    clouds.act("delete", of)
    clouds.act("delete", of)
    assert cloud.verbs() == ["describe", "create", "describe", "delete", "describe"]


def test_setup_run_and_status_reach_all_workers(cloud, tmp_path, capsys):
    of = clouds.launch(tmp_path)
    cloud.plays("ACTIVE")
    clouds.act("setup", of)
    clouds.act("run", of)
    made = stage.make(of, write_secrets=False)
    ssh = "gcloud compute tpus tpu-vm ssh tiny --worker=all"
    assert [line for line in asked(cloud) if "describe" not in line] == [
        f"gcloud compute tpus tpu-vm scp {made.archive} tiny: --worker=all {WHERE}",
        f"{ssh} '--command=mkdir -p rlaifv/tiny && tar -xzf tiny.tar.gz -C rlaifv/tiny worker && "
        f"bash rlaifv/tiny/worker/setup.sh' {WHERE}",
        f"{ssh} '--command=bash rlaifv/tiny/worker/start.sh {made.digest}' {WHERE}",
    ]
    capsys.readouterr()
    clouds.act("status", of)
    assert capsys.readouterr().err.count(": done") == 4


def test_setup_needs_machines(cloud, tmp_path):
    cloud.plays("PROVISIONING")
    with pytest.raises(UserError, match="tiny is PROVISIONING: create it and wait"):
        clouds.act("setup", clouds.launch(tmp_path))


def test_ssh_and_logs(cloud, tmp_path, capfd):
    cloud.plays("ACTIVE")
    of = clouds.launch(tmp_path)
    clouds.act("ssh", of, command='echo "hello $WORKER"')
    said = capfd.readouterr().err
    assert all(f"hello {number}\n" in said for number in range(4))
    clouds.act("ssh", of, command="exit 0", worker="2")
    assert cloud.calls()[-1][6:8] == ["--worker=2", "--command=exit 0"]
    (cloud.home() / "rlaifv/tiny").mkdir(parents=True)
    (cloud.home() / "rlaifv/tiny/log").write_text("step 7\n")
    clouds.act("logs", of)
    assert capfd.readouterr().out == "step 7\n"


def test_a_host_over_ssh(cloud, tmp_path, monkeypatch):
    monkeypatch.setenv("STUB_HOSTS", "1")
    of = clouds.launch(tmp_path, place="host", host="me@gpu", accelerator="")
    with pytest.raises(UserError, match="me@gpu is there already"):
        place(of).create()
    clouds.act("setup", of)
    clouds.act("run", of)
    made = stage.make(of, write_secrets=False)
    ssh = "ssh -o BatchMode=yes -o ServerAliveInterval=30 me@gpu"
    assert asked(cloud) == [
        f"scp -o BatchMode=yes {made.archive} me@gpu:",
        f"{ssh} 'mkdir -p rlaifv/tiny && tar -xzf tiny.tar.gz -C rlaifv/tiny worker && "
        "bash rlaifv/tiny/worker/setup.sh'",
        f"{ssh} 'bash rlaifv/tiny/worker/start.sh {made.digest}'",
    ]
    assert "[cuda]" in (cloud.folder / "installs").read_text()
    clouds.act("delete", of)
    clouds.act("delete", of)
    assert not list(cloud.home().glob("*tiny*")) + list(cloud.home().glob("rlaifv/*"))


@pytest.mark.parametrize("where", ["queued", "tpu_vm"])
@pytest.mark.parametrize("verb", ["create", "setup", "run", "watch", "status", "ssh", "stop", "delete"])
def test_a_rehearsal_prints_what_is_run(cloud, tmp_path, capsys, verb, where):
    of = clouds.launch(tmp_path, place=where)
    rehearsal = Rehearsal(place(of), verb not in ("create", "watch"), stage.make(of, write_secrets=False))
    clouds.act(verb, of, rehearsal, command="uptime; echo 'a b'")
    printed = capsys.readouterr().out.splitlines()
    assert cloud.calls() == []
    if verb not in ("create", "watch"):
        cloud.plays("ACTIVE" if where == "queued" else "READY")
    if verb in ("run", "status", "stop"):
        clouds.act("setup", of)
        if verb != "run":
            clouds.act("run", of)
        cloud.forget()
    clouds.act(verb, of, command="uptime; echo 'a b'")
    ran = asked(cloud)
    while verb == "watch" and ran[-4:-2] == ran[-2:]:
        del ran[-2:]  # it has looked more than once until the command had ended
    assert ran == printed


@pytest.mark.parametrize(
    ("complaint", "message"),
    [
        (
            "ERROR: (gcloud.x) RESOURCE_EXHAUSTED: Quota limit 'TPUV5s' has been exceeded.",
            "Quota limit 'TPUV5s' has been",
        ),
        ("ERROR: (gcloud.x) PERMISSION_DENIED: no access", "PERMISSION_DENIED: no access"),
        ("one\ttwo", "failed with status 1: one two"),
    ],
)
def test_what_gcloud_complains_of_is_passed_on(cloud, tmp_path, complaint, message):
    cloud.refuses(complaint)
    with pytest.raises(CommandFailed) as raised:
        clouds.act("create", clouds.launch(tmp_path))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "`gcloud compute tpus queued-resources create tiny …`" in str(raised.value)


def test_without_gcloud_it_is_one_line(tmp_path):
    done = command(tmp_path, "create", PATH="/nowhere")
    assert done.returncode == 2
    assert (
        done.stderr
        == "error: gcloud is not installed here (the Google Cloud CLI: cloud.google.com/sdk), or not on PATH; "
        "install it\n"
    )


def test_the_command_rehearses_and_writes_no_secret(tmp_path):
    extra = "--config.secrets=('HF_TOKEN',)"
    done = command(tmp_path, "setup", extra, "--dry-run", PATH="/nowhere", HF_TOKEN="hf_abc")
    assert done.returncode == 0, done.stderr
    describe, copy, install = done.stdout.splitlines()
    assert "queued-resources describe llava15-v5e-16" in describe
    assert "llava15-v5e-16.secrets" in copy
    assert "setup.sh" in install
    assert [file.suffix for file in tmp_path.rglob("*.*") if file.is_file()] == [".gz"]
    assert "hf_abc" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fly",), "which stage? Say one of create, setup, run"),
        (("ssh",), "ssh: what to run? Give --command"),
        (("manifest",), "place is 'queued'"),
        (("create", "--config.zone=mars"), "zone is 'mars'"),
        (("create", "--config.zonee=x"), "zonee"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, words, message):
    done = command(tmp_path, *words)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert message in done.stderr


def command(folder, verb, *words, **environment):
    settings = ["--config.zone=us-west4-a", "--config.bucket=gs://bucket/runs", f"--config.staging={folder}"]
    return subprocess.run(
        [sys.executable, "-m", "launch.cloud", verb, "--config=configs/launch_llava15.py", *settings, *words],
        cwd=world.ROOT,
        env=world.environment() | environment,
        capture_output=True,
        text=True,
        check=False,
    )
