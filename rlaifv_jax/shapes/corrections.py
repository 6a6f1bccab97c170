"""Dense DPO against DPO in the small world: the same pairs, steps and seeds, other weights of changed tokens.

    python -m rlaifv_jax.shapes.corrections [--seeds 3] [--scenes 600] [--output DIR]

Pairs are made as for RLHF-V: the rejected caption is the policy's own, the chosen one is the same with its wrong
segments corrected, for which the scene stands in for the annotator. A wrong word is replaced, a sentence about nothing
goes. Prints a table and writes it to DIR/corrections.md and DIR/corrections.json; rates are those of greedy captions
of unseen scenes, behind the last step. Five minutes on two CPU cores.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlaifv_jax.cli import guard, say
from rlaifv_jax.shapes.ablations import Bench, rates_table
from rlaifv_jax.shapes.captions import PHRASINGS, parse, sentence
from rlaifv_jax.shapes.claims import split
from rlaifv_jax.shapes.heldout import MODELS, RATES
from rlaifv_jax.shapes.scene import Scene

ANSWERS = 2  # captions of a scene that are looked at
TOKENS = 40  # of a caption: means are so many times smaller than sums, and get a β as much larger


@dataclass(frozen=True)
class Variant:
    """A row of the table. beta, token_weight, average: as in configs/base.py."""

    name: str
    beta: float = 0.1
    token_weight: float = 1.0
    average: bool = False


VARIANTS = (
    Variant("DPO"),
    Variant("DPO, all tokens weigh 5 (β 0.5)", beta=0.5),
    Variant("dense DPO, changed tokens weigh 5", token_weight=5.0),
    Variant("DPO, means", beta=0.1 * TOKENS, average=True),
    Variant("dense DPO, changed tokens weigh 5, means", beta=0.1 * TOKENS, token_weight=5.0, average=True),
)


def correct(scene: Scene, caption: str) -> str | None:
    """The caption with what is wrong put right, sentence by sentence; None if nothing is wrong or nothing is left."""
    said = parse(caption)
    if said.is_true(scene):
        return None
    kept: list[str] = []
    known = set(said.claims)
    for text in split("", caption):
        claims = parse(text).claims
        there = scene.at(claims[0].cell) if claims else None
        if claims and claims[0] in scene:
            kept.append(text)
        elif there and there not in known:  # else it would be said twice
            known.add(there)
            kept.append(sentence(there, phrasing=int(not text.startswith(PHRASINGS[0].partition(" {")[0]))))
    return " ".join(kept) or None


def write_pairs(bench: Bench, scenes: Sequence[Scene], file: Path) -> int:
    """Pairs in the form of RLHF-V-Dataset from captions of the policy; returns how many."""
    rows: list[dict[str, Any]] = []
    for line in bench.answers(MODELS / "policy", ANSWERS).read_text().splitlines():
        record = json.loads(line)
        name = record["ds_question_id"]
        caption = " ".join(record["answer"].split())
        if chosen := correct(scenes[int(name.rpartition("-")[2])], caption):
            text = {"question": record["raw_question"], "chosen": chosen, "rejected": caption}
            picture = (bench.folder / "pictures" / f"{name}.png").read_bytes()
            rows.append({"image": {"bytes": picture, "path": None}, "text": json.dumps(text), "idx": len(rows)})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)
    return len(rows)


def trained(bench: Bench, variant: Variant, pairs: Path, epochs: float) -> Path:
    """The output directory of a run."""
    from configs.shapes import get_config
    from rlaifv_jax.train import train

    config = get_config("dpo")
    config.seed = bench.seed
    config.data.path = str(pairs)
    config.output_dir = str(bench.folder / f"run_{VARIANTS.index(variant)}")
    config.reference.path = str(bench.folder / "reference")
    config.train.epochs = epochs
    config.dpo.sft_weight = 0.0
    config.dpo.beta, config.dpo.token_weight = variant.beta, variant.token_weight
    config.dpo.average = variant.average
    train(config)
    return Path(config.output_dir)


def compare(output: Path, seeds: int, scenes: int, held_out: int, epochs: float) -> dict[str, Any]:
    """Run everything; returns what corrections.json holds: rates by variant, one for each seed."""
    from rlaifv_jax import parallel
    from rlaifv_jax.shapes.ask import write_questions

    parallel.initialize()
    found: dict[str, dict[str, list[float]]] = {}
    about = []

    def note(name: str, model: Path) -> None:
        measured = bench.judge(model)
        for rate in RATES:
            found.setdefault(name, {}).setdefault(rate, []).append(getattr(measured, rate))
        say(f"seed {bench.seed}: {name}: {measured.response_hallucination:.1%}")

    for seed in range(seeds):
        bench = Bench(output / str(seed), seed, scenes, held_out)
        shown = write_questions(bench.folder, scenes, seed)
        pairs = bench.folder / "pairs" / "pairs.parquet"
        count = write_pairs(bench, shown, pairs)
        note("before", MODELS / "policy")
        for variant in VARIANTS:
            folder = trained(bench, variant, pairs, epochs)
            note(variant.name, max((folder / "weights").iterdir(), key=lambda model: int(model.name)))
            last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
        facts = {name: last[f"data/{name}"] for name in ("changed_tokens", "unchanged_pairs")}
        about.append({"pairs": count, "steps": last["step"], **facts})
    result = {"seeds": seeds, "pairs": about, "variants": found}
    table = rates_table(found, "trained by")
    (output / "corrections.json").write_text(json.dumps(result, indent=2) + "\n")
    (output / "corrections.md").write_text(table)
    print(table)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m rlaifv_jax.shapes.corrections",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=Path("out/corrections"), help="default: out/corrections")
    parser.add_argument("--seeds", type=int, default=3, help="default 3")
    parser.add_argument("--scenes", type=int, default=600, help="to learn from (default 600)")
    parser.add_argument("--held-out", type=int, default=300, help="scenes to measure on (default 300)")
    parser.add_argument("--epochs", type=float, default=1.0, help="of the pairs (default 1)")
    given = parser.parse_args()
    if given.seeds < 1 or given.scenes < 50 or given.held_out < 1 or not given.epochs > 0:
        parser.error("--seeds and --held-out must be 1 or more, --scenes 50 or more, --epochs above 0")
    output = given.output.absolute()
    sys.exit(guard(lambda: compare(output, given.seeds, given.scenes, given.held_out, given.epochs)))


if __name__ == "__main__":
    main()
