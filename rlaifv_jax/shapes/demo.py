"""The whole idea in minutes on a laptop: a model that hallucinates, preference pairs, DPO, measured again.

    python -m rlaifv_jax.shapes.demo [--seed N] [--scenes N] [--output DIR]        (`make demo` runs it)

The small world is a board of coloured shapes, so whether a sentence is true can be decided exactly. A tiny
LLaVA (classes and files are those of the 7B model) has learnt from captions with bad habits to see what is
not there. This command makes preference pairs, trains on them with the ordinary trainer, and lets the model
describe scenes it has never seen, before and after. It writes to DIR (out/demo):

    pairs.parquet      the preference pairs, in the schema of RLAIF-V-Dataset
    heldout.parquet    the scenes to be described, with their ground truth
    dpo/               the training run: metrics, TensorBoard, checkpoints, the model in weights/
    captions.jsonl     what was said about every held-out scene, before and after
    summary.json       the numbers                examples.png     four scenes to look at

What an earlier demo left there is replaced: it always starts from scratch.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from rlaifv_jax.cli import guard

WRITTEN = ("pairs.parquet", "heldout.parquet", "dpo", "captions.jsonl", "summary.json", "examples.png")


def demo(output: Path, seed: int, scenes: int, held_out: int) -> dict[str, Any]:
    """Run the demo; returns what it writes to summary.json."""
    from configs.shapes import get_config
    from rlaifv_jax import parallel
    from rlaifv_jax.shapes import heldout
    from rlaifv_jax.shapes.build import newest
    from rlaifv_jax.shapes.datasets import write_pairs
    from rlaifv_jax.train import train

    parallel.initialize()
    started = time.perf_counter()
    _clear(output)
    config = get_config("dpo")
    config.seed, config.output_dir = seed, str(output / "dpo")
    config.data.path = str(output / "pairs.parquet")

    # ------------------------------------------------------------------ preference pairs
    pairs = write_pairs(config.data.path, scenes, seed)
    _title(f"{pairs['pairs']} preference pairs from {scenes} scenes")
    print(f"{config.data.path}: RLAIF-V schema, chosen and rejected captions of the same picture.")
    print("Who judged them: the ground truth of the scenes. AI feedback will take its place in a later version.")

    # ------------------------------------------------------------------ the model before
    examples = heldout.unseen(output / "heldout.parquet", held_out, seed)
    before = heldout.describe(config.model.path, examples)
    measured = {"base": heldout.judge(examples, before)}

    # ------------------------------------------------------------------ DPO, by the ordinary trainer
    _title("DPO: the same as python -m rlaifv_jax.train --config=configs/shapes.py")
    train(config)
    model = newest(output / "dpo")

    # ------------------------------------------------------------------ the model after
    after = heldout.describe(model, examples)
    measured["round_1"] = heldout.judge(examples, after)
    summary = {
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 1),
        "labels": "ground truth",
        "pairs": pairs["pairs"],
        "held_out_scenes": held_out,
        "stages": {stage: {key: getattr(rates, key) for key in heldout.RATES} for stage, rates in measured.items()},
    }
    _write_results(output, summary, examples, before, after)
    _title(f"{held_out} held-out scenes, one caption each by greedy decoding")
    print(heldout.table({"before": measured["base"], "after DPO": measured["round_1"]}))
    where = model.relative_to(output)
    print(f"\n{summary['seconds']:.0f} seconds. Everything is in {output}:")
    print("  examples.png    four scenes on which the model was wrong before, to look at")
    print("  captions.jsonl  all captions        summary.json  these numbers        dpo/  the training run")
    print(f"  {where}  the new model; --config.model.path and `python -m convert export` take it")
    return summary


def _write_results(
    output: Path, summary: dict[str, Any], examples: list[Any], before: list[str], after: list[str]
) -> None:
    from rlaifv_jax.shapes.datasets import read_heldout, write_heldout
    from rlaifv_jax.shapes.examples import choose_examples, draw_examples

    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    with open(output / "captions.jsonl", "w") as file:
        for example, first, second in zip(examples, before, after, strict=True):
            scene = json.loads(example.scene.to_json())
            file.write(json.dumps({"idx": example.idx, "before": first, "after": second, "scene": scene}) + "\n")
    shown = choose_examples(examples, before)
    large = output / ".large.parquet"
    write_heldout(large, max(shown) + 1, summary["seed"], pixels=192)
    pictures = read_heldout(large)
    large.unlink()
    columns = [(title, [texts[k] for k in shown]) for title, texts in (("before", before), ("after DPO", after))]
    draw_examples(output / "examples.png", [pictures[k] for k in shown], columns)


def _clear(output: Path) -> None:
    for name in WRITTEN:
        old = output / name
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink(missing_ok=True)
    output.mkdir(parents=True, exist_ok=True)


def _title(text: str) -> None:
    print(f"\n{text}\n{'─' * len(text)}", flush=True)


def parse_arguments(arguments: list[str]) -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m rlaifv_jax.shapes.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=Path("out/demo"), help="default: out/demo")
    parser.add_argument("--seed", type=int, default=0, help="of scenes, pairs and their order (default 0)")
    parser.add_argument("--scenes", type=int, default=600, help="to make pairs from (default 600)")
    parser.add_argument("--held-out", type=int, default=300, help="scenes to measure on (default 300)")
    parsed = parser.parse_args(arguments)
    if parsed.scenes < 50 or parsed.held_out < 1:
        parser.error("--scenes must be 50 or more, --held-out 1 or more")
    return parsed


def main() -> None:
    given = parse_arguments(sys.argv[1:])
    sys.exit(guard(lambda: demo(given.output.absolute(), given.seed, given.scenes, given.held_out)))


if __name__ == "__main__":
    main()
