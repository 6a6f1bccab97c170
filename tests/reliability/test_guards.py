"""Numbers that are none, steps that hang, workers that die, and two runs in one directory."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from etils import epath

from rlaifv_jax.session import only_writer
from tests import world


@pytest.fixture(scope="module")
def setting(tmp_path_factory, tokenizer_dir):
    folder = tmp_path_factory.mktemp("guards")
    model, data = world.write_model(folder / "model", tokenizer_dir), world.write_pairs(folder / "pairs.parquet", 40)

    def command(name, **settings):
        output = folder / name
        return output, world.command("train", model, data, output, train__longest_row=320, **settings)

    return command


def children(pid: int) -> list[int]:
    """Worker processes of multiprocessing, not its tracker of resources."""
    listed = subprocess.run(
        ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True, check=True
    )
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if "spawn_main" in line]


def test_a_hanging_step_is_told_and_ended(setting):
    """What hangs here is a data worker that was stopped."""
    output, start = setting("hangs", train__steps=100_000, data__workers=1, guard__hang_seconds=4)
    job = world.Job(start).wait_for(world.at_step(output, 4))
    (worker,) = children(job.processes[0].pid)
    os.kill(worker, signal.SIGSTOP)
    ((status, said),) = job.end(60)
    assert status == 75
    assert "error: no step has ended for 4 s" in said
    (told,) = output.glob("hang-*.txt")
    assert "journal.py" in told.read_text()  # where it waits
    assert "Thread 0x" in said
    os.kill(worker, signal.SIGCONT)
    world.wait_until(lambda: not Path(f"/proc/{worker}").exists())  # it leaves with its parent


def test_two_runs_do_not_share_a_directory(setting):
    output, start = setting("shared", train__steps=100_000)
    first = world.Job(start).wait_for(world.at_step(output, 1))
    second = world.run(start)
    assert second.returncode == 2
    assert f"error: {output}: another run is writing it" in second.stderr
    first.send(signal.SIGKILL).end(60)
    with only_writer(epath.Path(output)):  # the kernel has freed it
        pass


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_other(setting):
    output, start = setting("peer", train__steps=100_000, guard__hang_seconds=10)
    job = world.Job(start, 2, 2).wait_for(world.at_step(output, 3))
    job.processes[1].send_signal(signal.SIGSTOP)
    assert job.processes[0].wait(120) == 75
    assert "no step has ended" in job.said()[0]
    job.send(signal.SIGKILL)


@pytest.mark.slow
def test_two_jobs_of_two_processes_do_not_share_a_directory(setting):
    output, start = setting("shared-two", train__steps=100_000)
    first = world.Job(start, 2, 2).wait_for(world.at_step(output, 1))
    ended = world.Job(start, 2, 2).end()
    assert [status for status, _ in ended] == [2, 2]
    assert all("another run is writing it" in said for _, said in ended)
    first.send(signal.SIGKILL).end(60)
