"""Make the models of the small world from nothing (the repository ships the result, so few people need this).

    python -m rlaifv_jax.shapes.build [--output DIR]

About three quarters of an hour on two cores:

    start           a random tiny LLaVA whose image tower has learnt to tell shapes apart (stands in for CLIP)
    base            sft on true captions and questions                           configs/shapes.py:base
    policy          the base, continued by sft on captions with a planted bias   configs/shapes.py:policy
    labeler_start   another random LLaVA, two layers deeper
    seeing          sft on true captions and questions                           configs/shapes.py:seeing
    labeler         continued, mostly on questions about what is nearly true     configs/shapes.py:labeler

Base, policy and labeler are written as Hugging Face directories in bfloat16.

Training goes through the ordinary trainer. Killed and started again, the command goes on where it was.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from rlaifv_jax.cli import guard, say
from rlaifv_jax.shapes.tasks import BASE_MIX, LABELER_MIX, POLICY_MIX, SEEING_MIX

SCENES = {"base": 20_000, "policy": 8_000, "seeing": 24_000, "labeler": 24_000}
MIXES = {"base": BASE_MIX, "policy": POLICY_MIX, "seeing": SEEING_MIX, "labeler": LABELER_MIX}


def build(output: Path, work: Path, seed: int) -> None:
    """Write `output`/base, `output`/policy and `output`/labeler; everything in between goes to `work`."""
    from convert.orbax_dir import is_complete
    from rlaifv_jax import parallel
    from rlaifv_jax.shapes import agreement, heldout
    from rlaifv_jax.shapes.start import LABELER_LAYERS, LAYERS, write_start

    parallel.initialize()
    for name, chance, layers in (("start", seed, LAYERS), ("labeler_start", seed + 1, LABELER_LAYERS)):
        if is_complete(work / name):
            say(f"{name}: {work / name} is there")
        else:
            accuracy = write_start(work / name, chance, layers)
            say(f"{name}: the tower names {accuracy:.1%} of the cells rightly")
    measured = {}
    examples = heldout.unseen(work / "validation.parquet", 300, seed, "validation")
    for stage, before in (("base", work / "start"), ("policy", output / "base"), ("labeler", None)):
        before = before or train_stage("seeing", work / "labeler_start", work, seed)
        _export(train_stage(stage, before, work, seed), output / stage)
        measured[stage] = heldout.judge(examples, heldout.describe(output / stage, examples))
    print(f"\n{len(examples)} scenes that were never trained on, greedy decoding:\n")
    print(heldout.table(measured))
    print("\nyes/no questions about them that the labeler answers rightly:\n")
    print(agreement.table(agreement.agree(output / "labeler", examples, seed)))
    print(f"\nwrote {', '.join(str(output / stage) for stage in measured)}")


def train_stage(stage: str, model: Path, work: Path, seed: int) -> Path:
    """Make the data of a stage and train on it; returns the directory of the trained model."""
    from configs.shapes import get_config
    from rlaifv_jax.shapes.datasets import write_sft
    from rlaifv_jax.train import train

    config = get_config(stage)
    config.seed, config.model.path = seed, str(model)
    config.data.path, config.output_dir = str(work / f"{stage}.parquet"), str(work / "runs" / stage)
    if not Path(config.data.path).exists():
        part = work / f".{stage}.parquet"
        tasks = write_sft(part, SCENES[stage], seed, MIXES[stage], biased=stage == "policy", split=stage)
        part.rename(config.data.path)
        say(f"{stage}: {SCENES[stage]} conversations: {', '.join(f'{n} {task}' for task, n in tasks.items())}")
    train(config)
    return newest(Path(config.output_dir))


def newest(run: Path) -> Path:
    """The last model that a training run has written."""
    return max((run / "weights").iterdir(), key=lambda step: int(step.name))


def _export(model: Path, destination: Path) -> None:
    from convert.export import export_model
    from convert.load import open_model

    destination.parent.mkdir(parents=True, exist_ok=True)
    export_model(open_model(model), destination, "llava-hf", "bfloat16")


def parse(arguments: list[str]) -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m rlaifv_jax.shapes.build",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=Path("out/shapes/models"), help="default: out/shapes/models")
    parser.add_argument("--work", type=Path, default=Path("out/shapes"), help="for data and runs: out/shapes")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main() -> None:
    arguments = parse(sys.argv[1:])
    sys.exit(guard(lambda: build(arguments.output.absolute(), arguments.work.absolute(), arguments.seed)))


if __name__ == "__main__":
    main()
