"""Checkpoints that are damaged, and disks that take none."""

import json
import random
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests import world

STEPS = 6
LIMIT = 64 * 1024  # bytes a file may have, where writing is to fail: fewer than the largest array takes


@pytest.fixture(scope="module")
def setting(tmp_path_factory, tokenizer_dir):
    folder = tmp_path_factory.mktemp("damage")
    model, data = world.write_model(folder / "model", tokenizer_dir), world.write_pairs(folder / "pairs.parquet")
    start = world.command("train", model, data, folder / "run", train__steps=STEPS, checkpoint__every=3)
    world.run_ok(start)
    shutil.copytree(folder / "run", folder / "whole")
    return folder / "run", folder / "whole", start


def files_of(checkpoint: Path) -> list[Path]:
    return sorted(path for path in checkpoint.rglob("*") if path.is_file())


def largest(checkpoint: Path) -> Path:
    """Where nearly all weights are."""
    return max(files_of(checkpoint), key=lambda path: path.stat().st_size)


def truncate(checkpoint):
    file = largest(checkpoint)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def empty(checkpoint):
    largest(checkpoint).write_bytes(b"")


def delete_half(checkpoint):
    chance = random.Random(1)
    files = files_of(checkpoint / "state")
    for file in {largest(checkpoint), *chance.sample(files, len(files) // 2)}:
        file.unlink()


def flip_a_bit(checkpoint):
    """Which no checksum of TensorStore's sees."""
    file = largest(checkpoint)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(content)


def change_the_description(checkpoint):
    file = checkpoint / "meta" / "metadata"
    file.write_text(file.read_text().replace('"step": 6', '"step": 7'))


KINDS = [truncate, empty, delete_half, flip_a_bit, change_the_description]


def restore_whole(output, whole):
    shutil.rmtree(output)
    shutil.copytree(whole, output)


def check(output, whole, said):
    """The checkpoint before was taken, and the run ended as it had before."""
    (line,) = [line for line in said.splitlines() if line.startswith("warning: checkpoint")]
    assert f"{output}/checkpoints/6 is damaged" in line
    assert "going on from step 3" in said
    assert (output / "damaged" / "6").is_dir()
    assert (output / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    ours, theirs = world.weights(output, STEPS), world.weights(whole, STEPS)
    for path, value in theirs.items():
        np.testing.assert_array_equal(ours[path], value, err_msg=path)


def test_the_one_before_is_taken(setting):
    output, whole, start = setting
    restore_whole(output, whole)
    flip_a_bit(output / "checkpoints" / "6")
    check(output, whole, world.run_ok(start))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_one_before_is_taken_by_two_processes(setting, kind):
    """Also where only one of them finds the damage, on another mesh, whose sums are the same."""
    output, whole, start = setting
    restore_whole(output, whole)
    kind(output / "checkpoints" / "6")
    said = world.run_together(start, 2, devices=1)
    assert "is damaged" in said[0]
    assert "going on from step 3" in said[0]
    assert (output / "damaged" / "6").is_dir()


@pytest.mark.slow
def test_any_bit_of_any_file(setting):
    """40 flips: the run ends as it had, from this checkpoint where the bit meant nothing, or from the one before."""
    output, whole, start = setting
    chance, seen = random.Random(0), 0
    for _ in range(40):
        restore_whole(output, whole)
        shutil.rmtree(output / "weights" / str(STEPS))
        file = chance.choice(files_of(output / "checkpoints" / "6"))
        content = bytearray(file.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
        seen += "is damaged" in world.run_ok(start)
        ours, theirs = world.weights(output, STEPS), world.weights(whole, STEPS)
        for path, value in theirs.items():
            np.testing.assert_array_equal(ours[path], value, err_msg=f"{file} {path}")
    assert seen > 5


def test_without_a_whole_one_the_run_ends(setting):
    output, whole, start = setting
    restore_whole(output, whole)
    change_the_description(output / "checkpoints" / "6")
    (output / "checkpoints" / "3" / "meta" / "metadata").write_text("")
    done = world.run(start)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert "no checkpoint can be read (3: " in line
    assert (output / "checkpoints" / "6").is_dir()


def test_a_disk_that_takes_no_more(setting):
    """A limit on the size of files: of all ways in which writing fails the one that needs no disk of its own."""
    output, whole, start = setting
    restore_whole(output, whole)
    limit, start = (LIMIT, LIMIT), [*start, "--config.train.steps=40", "--config.resume.allow_changed"]
    ((status, said),) = world.Job(start, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit)).end()
    assert status == 2
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert "could not be written (File too large)" in line
    assert "Traceback" not in said
    kept = {path.name for path in (output / "checkpoints").iterdir() if path.name.isdigit()}
    assert kept == {"3", "6"}
    assert "going on from step 6" in world.run_ok(start)
    assert world.metrics(output)[-1]["step"] == 40


def test_metrics_on_a_full_disk(tmp_path):
    """What the log says when a line cannot be written."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full")
    from etils import epath

    from rlaifv_jax import cli
    from rlaifv_jax.metrics import JsonLines

    lines = JsonLines(epath.Path(tmp_path / "metrics.jsonl"), 0)
    lines.stream = full.open("w")
    assert cli.guard(lambda: lines.write({"step": 1, "loss": json.loads("1.0")})) == 2
    with pytest.raises(OSError, match="No space left"):
        lines.stream.close()
