"""Does the installed package work here? A labeler's pairs, three DPO steps, a checkpoint, a fourth step, captions.

python -m rlaifv_jax.shapes.smoke          (`make smoke-newest` runs it under the newest JAX)
"""

import json
import math
import tempfile
from pathlib import Path

import jax

from configs import iterate_shapes, shapes
from rlaifv_jax import parallel
from rlaifv_jax.feedback.chain import Feedback
from rlaifv_jax.shapes import heldout
from rlaifv_jax.shapes.ask import write_questions
from rlaifv_jax.shapes.build import newest
from rlaifv_jax.train import train


def smoke(folder: Path) -> list[float]:
    """Make pairs and train in `folder`; returns the four losses. Raises AssertionError when something is off."""
    config = shapes.get_config("dpo")
    config.data.path, config.output_dir = _make_pairs(folder), str(folder / "run")
    config.train.batch_pairs, config.train.steps = 8 * jax.device_count(), 4
    config.checkpoint.every = 3
    config.dpo.sft_weight = 0.0  # the first loss of DPO alone is ln 2
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


def _make_pairs(folder: Path) -> str:
    write_questions(folder, 40 * jax.device_count(), seed=0)
    config = iterate_shapes.get_config()
    config.feedback.policy.model, config.feedback.questions = config.model.path, str(folder / "questions.jsonl")
    config.feedback.output_dir = str(folder / "feedback")
    Feedback(config.feedback).all()
    return str(folder / "feedback" / "pairs")


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
