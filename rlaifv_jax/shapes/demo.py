"""The whole idea in minutes on a laptop: a model that hallucinates, feedback from another model, two rounds of DPO.

    python -m rlaifv_jax.shapes.demo [--seed N] [--scenes N] [--output DIR]        (`make demo` runs it)

The small world is a board of coloured shapes, so whether a sentence is true can be decided exactly. A tiny LLaVA
(classes and files are those of the 7B model) has learnt from captions with bad habits to see what is not there. In each
round it describes scenes ten times over, another tiny LLaVA answers yes or no to every claim in that, and the ordinary
trainer learns from the pairs that come out: what rlaifv_jax.iterate does with real models. The truth is asked only to
choose among checkpoints, on scenes kept for that, and to measure, on scenes that neither model has ever seen.

    rounds/            as rlaifv_jax.iterate writes them: answers, claims, scores, pairs, training runs, state.json
    questions.jsonl    what was asked, about pictures/
    heldout/           the scenes that are measured on, and 16 captions of each for the best of N
    heldout/judged/    the labeler's verdicts on all that was said about them
    captions.jsonl     what was said about every held-out scene, from round to round
    summary.json       the numbers      report.html  all of it to look at, as rlaifv_jax.report writes it

What an earlier demo left in DIR (out/demo) is replaced: it always starts from scratch.
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from rlaifv_jax.cli import guard
from rlaifv_jax.errors import UserError

WRITTEN = (
    "rounds",
    "pictures",
    "heldout",
    "questions.jsonl",
    "captions.jsonl",
    "summary.json",
    "report.html",
)
MARK = ".demo"  # tells that all this is a demo's
SHOWN = 8  # the N in the table


def demo(output: Path, seed: int, scenes: int, held_out: int) -> dict[str, Any]:
    """Run the demo; returns what it writes to summary.json."""
    from configs.iterate_shapes import get_config
    from rlaifv_jax import parallel
    from rlaifv_jax.iterate import iterate
    from rlaifv_jax.records.shards import read_shards
    from rlaifv_jax.report.__main__ import write_report
    from rlaifv_jax.shapes import agreement, best, heldout
    from rlaifv_jax.shapes.ask import write_questions

    parallel.initialize()
    started = time.perf_counter()
    _clear(output)
    config = get_config()
    config.seed, config.output_dir = seed, str(output / "rounds")
    config.questions, config.questions_per_round = str(output / "questions.jsonl"), scenes

    # ------------------------------------------------------------------ the rounds, as anybody runs them
    _title(f"{config.rounds} rounds: the same as python -m rlaifv_jax.iterate --config=configs/iterate_shapes.py")
    shown = write_questions(output, config.rounds * scenes, seed)
    rounds = iterate(config)
    models = {"base": Path(config.model.path)} | {
        f"round_{number}": output / "rounds" / f"round_{number}" / "train" / "weights" / str(account["chosen"])
        for number, account in enumerate(rounds, 1)
    }

    # ------------------------------------------------------------------ greedy captions of scenes nobody has seen
    _title(f"what the models say about {held_out} scenes they have never seen")
    write_questions(output / "heldout", held_out, seed, "heldout")
    examples = heldout.unseen(output / "heldout" / "heldout.parquet", held_out, seed)
    captions = {name: heldout.describe(model, examples) for name, model in models.items()}
    measured = {name: heldout.judge(examples, said) for name, said in captions.items()}
    _judge(config.feedback, output / "heldout", {str(models[name]): said for name, said in captions.items()})

    # ------------------------------------------------------------------ the best of N answers of the base model
    newest = list(models.values())[-1]
    drawn = best.draw(output / "heldout", models["base"], newest, models["base"], max(best.NUMBERS), seed)
    curves = {
        way: [heldout.judge(examples, drawn.best(number, way)) for number in best.NUMBERS]
        for way in ("reward", "likelihood")
    }
    chosen = drawn.best(SHOWN, "reward")
    measured[f"best_of_{SHOWN}"] = heldout.judge(examples, chosen)

    # ------------------------------------------------------------------ how often the labeler was right
    truth = {f"feedback-{index:06d}": scene for index, scene in enumerate(shown)}
    right = agreement.of_feedback(
        [
            record
            for number in range(1, config.rounds + 1)
            for record in read_shards(output / f"rounds/round_{number}/score")
        ],
        truth,
    )

    # ------------------------------------------------------------------ the result
    with open(output / "captions.jsonl", "w") as file:
        for place, example in enumerate(examples):
            said = {name: texts[place] for name, texts in captions.items()}
            file.write(json.dumps({"idx": example.idx, **said, "scene": json.loads(example.scene.to_json())}) + "\n")
    summary = {
        "seed": seed,
        "seconds": round(time.perf_counter() - started, 1),
        "labels": "a tiny LLaVA",
        "labeler_agreement": {"all": agreement.overall(right)} | {kind: n / of for kind, (n, of) in right.items()},
        "pairs": [_pairs(output, number) for number in range(1, config.rounds + 1)],
        "held_out_scenes": held_out,
        "stages": {name: {key: getattr(m, key) for key in heldout.RATES} for name, m in measured.items()},
        "best_of_n": {
            way: {str(n): m.response_hallucination for n, m in zip(best.NUMBERS, each, strict=True)}
            for way, each in curves.items()
        },
    }
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _title(f"{held_out} unseen scenes, one greedy caption each; the best of {SHOWN} drawn by the base model")
    print(heldout.table({name.replace("_", " "): m for name, m in measured.items()}))
    print(
        f"\nThe labeler was right about {agreement.overall(right):.1%} of {sum(of for _, of in right.values())} claims."
    )
    print(f"{summary['seconds']:.0f} seconds. Everything is in {output}:")
    print("  captions.jsonl  all captions        summary.json  the numbers        rounds/  everything in between")
    print(f"  {newest.relative_to(output)}  the new model; chat, convert and training take it")
    print(f"Open {write_report(str(output))} in a browser: curves, and scenes before and after.")
    return summary


def _pairs(output: Path, number: int) -> int:
    report = json.loads((output / f"rounds/round_{number}/pairs/report.json").read_text())
    return int(report["counts"]["pairs"])


def _judge(config: Any, folder: Path, captions: dict[str, list[str]]) -> None:
    """Ask the labeler about the claims of captions, by model, of the questions in `folder`: as answers of anybody."""
    from rlaifv_jax.feedback.chain import Feedback

    asked = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    with open(folder / "captions.jsonl", "w") as file:
        for place, question in enumerate(asked):
            for number, (model, texts) in enumerate(captions.items()):
                answer = {"question_id": place * len(captions) + number, "answer": texts[place], "model_path": model}
                file.write(json.dumps(question | answer) + "\n")
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.output_dir, config.candidates = str(folder / "judged"), str(folder / "captions.jsonl")
    stages = Feedback(config)
    for stage in (stages.divide, stages.question, stages.score):
        stage()


def _clear(output: Path) -> None:
    """Make room for a demo where there is nothing else, or an earlier demo."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        there = [name for name in WRITTEN if (output / name).exists()]
        if there and not (output / MARK).exists():
            raise UserError(f"--output: {output} holds {there[0]}, which no demo has left there; choose another place")
        (output / MARK).touch()
        for name in there:
            old = output / name
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink()
    except OSError as error:
        raise UserError(f"--output: {output} cannot be written ({error.strerror}); choose another place") from None


def _title(text: str) -> None:
    print(f"\n{text}\n{'─' * len(text)}", flush=True)


def parse_arguments(arguments: list[str]) -> Any:
    parser = argparse.ArgumentParser(
        prog="python -m rlaifv_jax.shapes.demo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=Path("out/demo"), help="default: out/demo")
    parser.add_argument("--seed", type=int, default=0, help="of scenes, answers, pairs and their order (default 0)")
    parser.add_argument("--scenes", type=int, default=600, help="to learn from in each round (default 600)")
    parser.add_argument("--held-out", type=int, default=300, help="scenes to measure on (default 300)")
    parsed = parser.parse_args(arguments)
    if parsed.scenes < 50 or parsed.held_out < 1:
        parser.error("--scenes must be 50 or more, --held-out 1 or more")
    return parsed


def main() -> None:
    given = parse_arguments(sys.argv[1:])
    sys.exit(guard(lambda: demo(given.output, given.seed, given.scenes, given.held_out)))


if __name__ == "__main__":
    main()
