"""4,000 steps of the tiny model: memory stays, nothing is compiled again, steps stay as fast, data is there in time."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests import world

STEPS, WARM = 4000, 1000


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
def test_four_thousand_steps(tmp_path, tokenizer_dir):
    model, data = world.write_model(tmp_path / "model", tokenizer_dir), world.write_pairs(tmp_path / "pairs.parquet")
    settings = {"train__steps": STEPS, "checkpoint__every": 500, "train__longest_row": 320, "data__workers": 1}
    output = tmp_path / "run"
    job = world.Job(world.command("train", model, data, output, **settings), extra={"JAX_LOG_COMPILES": "1"})
    (process,) = job.processes
    sizes, compiled = [], []
    for step in range(WARM, STEPS, 500):
        job.wait_for(world.at_step(output, step), seconds=1200)
        sizes.append(resident(process.pid))
        compiled.append(job.said()[0].count("Finished XLA compilation"))
    ((status, _),) = job.end()
    assert status == 0
    assert max(sizes) < 1.05 * sizes[0], [size // 2**20 for size in sizes]
    assert compiled[0] > 0
    assert compiled[-1] == compiled[0]
    lines = [json.loads(line) for line in (output / "timing.jsonl").read_text().splitlines()]
    assert len(lines) == STEPS
    seconds = np.array([line["seconds_per_step"] for line in lines[WARM:]])
    waits = np.array([line["data_wait_per_step"] for line in lines[WARM:]])
    halves = np.median(seconds[: len(seconds) // 2]), np.median(seconds[len(seconds) // 2 :])
    print(
        f"soak: MiB {[size // 2**20 for size in sizes]}, data wait {waits.sum() / seconds.sum():.2%}, halves {halves}"
    )
    assert waits.sum() < 0.02 * seconds.sum()
    assert halves[1] < 1.25 * halves[0]
