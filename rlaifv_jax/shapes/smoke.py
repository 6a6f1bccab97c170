"""Does the installed package work here? Three DPO steps on the shipped policy, a checkpoint, a fourth step, captions.

python -m rlaifv_jax.shapes.smoke          (`make smoke-newest` runs it under the newest JAX)
"""

import json
import math
import tempfile
from pathlib import Path

import jax

from configs.shapes import get_config
from rlaifv_jax import parallel
from rlaifv_jax.shapes import heldout
from rlaifv_jax.shapes.build import newest
from rlaifv_jax.shapes.datasets import write_pairs
from rlaifv_jax.train import train


def smoke(folder: Path) -> list[float]:
    """Train in `folder`; returns the four losses. Raises AssertionError when something is off."""
    config = get_config("dpo")
    config.data.path, config.output_dir = str(folder / "pairs.parquet"), str(folder / "run")
    config.train.batch_pairs, config.train.steps = 8 * jax.device_count(), 4
    config.checkpoint.every = 3
    write_pairs(config.data.path, 40, seed=0)
    train(config)
    first = _losses(folder)
    assert len(first) == 4, first
    assert abs(first[0] - math.log(2)) < 1e-5, f"the first loss is {first[0]}, not ln 2"
    assert first[3] < first[0], first
    # The last state is taken away; the same command goes on from the third step and ends where it ended.
    last = folder / "run" / "checkpoints" / "4"
    last.rename(folder / "taken")
    train(config)
    again = _losses(folder)
    assert again == first, f"resumed: {again}, unbroken: {first}"
    captions = heldout.describe(newest(folder / "run"), heldout.unseen(folder / "heldout.parquet", 3, seed=0))
    assert all(caption.startswith(("there is", "i see")) for caption in captions), captions
    return first


def _losses(folder: Path) -> list[float]:
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def main() -> None:
    parallel.initialize()
    with tempfile.TemporaryDirectory() as folder:
        losses = smoke(Path(folder))
    print(f"JAX {jax.__version__} works here: losses {', '.join(f'{loss:.4f}' for loss in losses)}")


if __name__ == "__main__":
    main()
