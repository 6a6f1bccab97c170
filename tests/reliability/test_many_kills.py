"""The full count: 20 times `kill -9`, at random moments from the start of the processes to the last write, in runs of
two processes of four devices each."""

import hashlib
import random
import signal
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests import world

STEPS, RUNS, KILLS = 48, 4, 5
TOGETHER = {"count": 2, "devices": 4}
SETTINGS = {
    "train__steps": STEPS,
    "checkpoint__every": 8,
    "train__eval_every": 12,
    "data__eval_fraction": 0.2,
    "train__longest_row": 320,
    "precision__compute": "bfloat16",
    "data__workers": 1,
}


def state_of(output, step):
    """A hash of every array of a state, as it lies on the disk."""
    handler, place = ocp.PyTreeCheckpointHandler(), output / "checkpoints" / str(step) / "state"
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(place).tree)
    state = handler.restore(place, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    leaves = jax.tree_util.tree_leaves_with_path(state)
    assert len(leaves) > 20
    return {str(path): hashlib.sha256(np.asarray(leaf).tobytes()).hexdigest() for path, leaf in leaves}


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path, tokenizer_dir):
    model, data = world.write_model(tmp_path / "model", tokenizer_dir), world.write_pairs(tmp_path / "pairs.parquet")
    began = time.monotonic()
    world.run_together(world.command("train", model, data, tmp_path / "whole", **SETTINGS), **TOGETHER)
    whole, length = tmp_path / "whole", time.monotonic() - began
    chance = random.Random(0)
    for number in range(RUNS):
        output = tmp_path / f"killed-{number}"
        start = world.command("train", model, data, output, **SETTINGS)
        for kill in range(KILLS):
            job = world.Job(start, **TOGETHER)
            if kill < 2:  # anywhere: while it imports, compiles, trains
                moment = time.monotonic() + chance.uniform(0, length)
                while time.monotonic() < moment and all(process.poll() is None for process in job.processes):
                    time.sleep(0.01)
            else:  # in training
                reached = world.reached(output)
                if reached < STEPS - 2:
                    job.wait_for(world.at_step(output, chance.randint(reached + 1, min(reached + 16, STEPS - 1))))
                    time.sleep(chance.uniform(0, 0.2))
            for process in chance.sample(job.processes, 2):  # one after the other, in any order
                process.send_signal(signal.SIGKILL)
                time.sleep(chance.choice([0, 0, 0.3]))
            job.end(60)
        said = world.run_together(start, **TOGETHER)
        assert "damaged" not in said[0]
        assert (output / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
        assert state_of(output, STEPS) == state_of(whole, STEPS)
        ours, theirs = world.weights(output, STEPS), world.weights(whole, STEPS)
        for path, value in theirs.items():
            np.testing.assert_array_equal(ours[path], value, err_msg=path)
