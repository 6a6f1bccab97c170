"""What each part of the feedback is good for: one round in the small world with one thing changed, on several seeds.

    python -m rlaifv_jax.shapes.ablations [--seeds 3] [--scenes 600] [--only REGEX] [--output DIR]

Prints a table and writes it to DIR/ablations.md and DIR/ablations.json. Everything else is as configs/iterate_shapes.py
has it, checkpoints are chosen as there, and rates are those of greedy captions of unseen scenes. The last lines are the
best of N answers of the aligned model itself, which fails. Twenty minutes on two CPU cores; --only makes those rows
alone whose names match, without the last lines.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rlaifv_jax.cli import guard, say
from rlaifv_jax.shapes.heldout import MODELS, RATES
from rlaifv_jax.shapes.measure import Measurement

Change = Callable[[Any], None]  # of the config of a round


def _as_it_is(config: Any) -> None:
    pass


def _whole_answers(config: Any) -> None:
    config.feedback.divide.function = "rlaifv_jax.shapes.claims:undivided"
    config.feedback.question.function = "rlaifv_jax.shapes.claims:ask_whole"


def _own_labeler(config: Any) -> None:
    config.feedback.score.model = config.model.path


def _balance(kind: str) -> Change:
    def change(config: Any) -> None:
        config.feedback.pairs.balance = kind

    return change


def _unbalanced(change: Change) -> Change:
    def both(config: Any) -> None:
        change(config)
        _balance("none")(config)

    return both


def _adapters(config: Any) -> None:
    """Published for the 7B are a rate 20 times that of all weights, and a rank of 1/64 of the width."""
    config.training.lora.rank = 8
    config.training.optim.lr = 20 * config.training.optim.lr


def _without_likelihood(config: Any) -> None:
    config.training.dpo.sft_weight = 0.0


@dataclass(frozen=True)
class Variant:
    """name: of what is changed. mixed: half of the answers come from another model. shuffled: chosen and rejected
    answers are swapped by lot."""

    name: str
    change: Change
    mixed: bool = False
    shuffled: bool = False


VARIANTS = (
    Variant("as it is", _as_it_is),
    Variant("one question about whole answers", _whole_answers),
    Variant("whole answers, no balance of lengths", _unbalanced(_whole_answers)),
    Variant("half of the answers from another model", _as_it_is, mixed=True),
    Variant("the policy labels itself", _own_labeler),
    Variant("the policy labels itself, no balance of lengths", _unbalanced(_own_labeler)),
    Variant("random pairs", _as_it_is, shuffled=True),
    Variant("no balance of lengths", _balance("none")),
    Variant("one-sided balance, as the original", _balance("one_sided")),
    Variant("no likelihood term", _without_likelihood),
    Variant("adapters (LoRA) instead of all weights", _adapters),
)


class Bench:
    """The scenes of one seed, and answers to them."""

    def __init__(self, folder: Path, seed: int, scenes: int, held_out: int):
        from rlaifv_jax.shapes import heldout
        from rlaifv_jax.shapes.ask import write_questions

        self.folder, self.seed = folder, seed
        write_questions(folder, scenes, seed)
        write_questions(folder / "heldout", held_out, seed, "heldout")
        self.examples = heldout.unseen(folder / "heldout" / "heldout.parquet", held_out, seed)

    def config(self) -> Any:
        from configs.iterate_shapes import get_config

        config = get_config()
        config.seed = config.feedback.seed = config.training.seed = self.seed
        config.feedback.questions = str(self.folder / "questions.jsonl")
        config.feedback.policy.model = config.model.path
        return config

    def judge(self, model: Path) -> Measurement:
        from rlaifv_jax.shapes import heldout

        return heldout.judge(self.examples, heldout.describe(model, self.examples))

    def answers(self, model: Path, count: int) -> Path:
        """`count` answers of a model to every question, made once."""
        from rlaifv_jax.feedback.chain import Feedback

        config = self.config().feedback
        config.policy.model, config.policy.n = str(model), count
        config.output_dir = str(self.folder / f"{model.name}_{count}")
        Feedback(config).candidates()
        return Path(config.output_dir) / "candidates.jsonl"

    def mixed(self) -> Path:
        """Five answers each of the policy and of the base, which never hallucinates, side by side."""
        both = [self.answers(MODELS / name, 5).read_text().splitlines() for name in ("policy", "base")]
        lines = []
        for start in range(0, len(both[0]), 5):
            for place, line in enumerate(line for each in both for line in each[start : start + 5]):
                lines.append(json.dumps(json.loads(line) | {"question_id": 2 * start + place}))
        file = self.folder / "mixed.jsonl"
        file.write_text("\n".join(lines) + "\n")
        return file

    def round(self, variant: Variant) -> Path:
        """The model that one round ends with."""
        from rlaifv_jax.feedback.chain import Feedback
        from rlaifv_jax.shapes.selection import measure
        from rlaifv_jax.train import train

        config = self.config()
        variant.change(config)
        output = self.folder / variant.name.replace(" ", "_")
        config.feedback.output_dir = str(output)
        config.feedback.candidates = str(self.mixed() if variant.mixed else self.answers(MODELS / "policy", 10))
        Feedback(config.feedback).judge()
        if variant.shuffled:
            shuffle(output / "pairs", output / "shuffled", self.seed)
        config.training.data.path = str(output / ("shuffled" if variant.shuffled else "pairs"))
        config.training.output_dir = str(output / "train")
        train(config.training)

        def rank(model: Path) -> tuple[float, int]:  # of equal scores the latest, as rlaifv_jax.iterate has it
            return measure(model, output / "measured" / model.name, config)["score"], int(model.name)

        return max((output / "train" / "weights").iterdir(), key=rank)


def shuffle(pairs: Path, output: Path, seed: int) -> None:
    """The same pairs, in half of which the better answer is the rejected one."""
    table = pq.read_table(sorted(pairs.glob("*.parquet")))
    swapped = np.random.default_rng(seed).random(len(table)) < 0.5
    sides = [np.array(table[side].to_pylist(), object) for side in ("chosen", "rejected")]
    for name, (this, other) in (("chosen", (0, 1)), ("rejected", (1, 0))):
        column = pa.array(np.where(swapped, sides[other], sides[this]).tolist(), pa.string())
        table = table.set_column(table.column_names.index(name), name, column)
    output.mkdir(exist_ok=True)
    pq.write_table(table, output / "00000.parquet")


def ablate(output: Path, seeds: int, scenes: int, held_out: int, only: str = "") -> dict[str, Any]:
    """Run everything, or the variants whose names match; returns what ablations.json holds: rates by variant, one for
    each seed."""
    from rlaifv_jax import parallel
    from rlaifv_jax.shapes import best, heldout

    parallel.initialize()
    found: dict[str, dict[str, list[float]]] = {}
    own: dict[str, list[float]] = {}

    def note(name: str, measured: Measurement) -> None:
        for rate in RATES:
            found.setdefault(name, {}).setdefault(rate, []).append(getattr(measured, rate))

    for seed in range(seeds):
        bench = Bench(output / str(seed), seed, scenes, held_out)
        note("before", bench.judge(MODELS / "policy"))
        aligned = None
        for variant in VARIANTS:
            if not re.search(only, variant.name):
                continue
            model = bench.round(variant)
            aligned = aligned or model
            note(variant.name, bench.judge(model))
            say(f"seed {seed}: {variant.name}: {found[variant.name]['response_hallucination'][-1]:.1%}")
        if only or aligned is None:
            continue
        drawn = best.draw(output / str(seed) / "heldout", aligned, aligned, MODELS / "policy", max(best.NUMBERS), seed)
        for number in best.NUMBERS:
            measured = heldout.judge(bench.examples, drawn.best(number, "reward"))
            own.setdefault(str(number), []).append(measured.response_hallucination)
    result = {"seeds": seeds, "variants": found, "best_of_n_of_the_aligned_model": own}
    (output / "ablations.json").write_text(json.dumps(result, indent=2) + "\n")
    (output / "ablations.md").write_text(table(found, own))
    print(table(found, own))
    return result


def table(found: dict[str, dict[str, list[float]]], own: dict[str, list[float]]) -> str:
    """Means and spreads over seeds, as Markdown."""
    rates = rates_table(found, "one round with")
    if not own:
        return rates
    lines = ["", "| best of N of the aligned model's own answers: N | captions with a false claim, % |", "|---|---|"]
    lines += [f"| {number} | {_mean(values, 100)} |" for number, values in own.items()]
    return rates + "\n".join(lines) + "\n"


def rates_table(found: dict[str, dict[str, list[float]]], rows: str) -> str:
    """Rates by variant, one for each seed: means and spreads, as Markdown. rows: what the rows are."""
    lines = [f"| {rows} | captions with a false claim, % | claims that are false, % | recall, % | words |"]
    lines.append("|---|---|---|---|---|")
    for name, rates in found.items():
        cells = [_mean(rates[rate], 100 if rate != "mean_words" else 1) for rate in RATES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float], factor: float) -> str:
    spread = f" ± {factor * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{factor * statistics.mean(values):.1f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m rlaifv_jax.shapes.ablations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=Path("out/ablations"), help="default: out/ablations")
    parser.add_argument("--seeds", type=int, default=3, help="default 3")
    parser.add_argument("--scenes", type=int, default=600, help="to learn from (default 600)")
    parser.add_argument("--held-out", type=int, default=300, help="scenes to measure on (default 300)")
    parser.add_argument("--only", default="", metavar="REGEX", help="names of the rows to make (default: all)")
    given = parser.parse_args()
    if not any(re.search(given.only, variant.name) for variant in VARIANTS):
        parser.error(f"--only: no row is called so; there are: {', '.join(variant.name for variant in VARIANTS)}")
    if given.seeds < 1 or given.scenes < 50 or given.held_out < 1:
        parser.error("--seeds and --held-out must be 1 or more, --scenes 50 or more")
    sys.exit(guard(lambda: ablate(given.output.absolute(), given.seeds, given.scenes, given.held_out, given.only)))


if __name__ == "__main__":
    main()
