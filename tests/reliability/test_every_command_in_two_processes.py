"""Evaluation and rounds in two processes write what one writes. Training: test_two_processes.py; others:
tests/test_generate.py, tests/feedback/test_command.py."""

import json
import sys
from pathlib import Path

from eval.objects.making import make
from rlaifv_jax.shapes.ask import write_questions
from rlaifv_jax.shapes.heldout import MODELS
from tests import world
from tests.test_iterate import SCENES, command

MADE_BY_CLOCK = ("speed.", "timing.jsonl", "state.json")


def test_evaluation(tmp_path: Path) -> None:
    """Both answer, the first one scores."""
    make(tmp_path / "data", None, 12, "lexicon")
    given = [
        "--data",
        tmp_path / "data",
        "--model",
        MODELS / "policy",
        "--extractor",
        "shapes",
        "--max-new-tokens",
        "40",
    ]
    start = [sys.executable, "-m", "eval", "run", "object_halbench", *map(str, given), "--num-beams", "1", "--output"]
    world.run_ok([*start, str(tmp_path / "one")])
    said = world.run_together([*start, str(tmp_path / "two")], 2)
    assert "CHAIR" not in said[1]
    for name in ("questions.jsonl", "answers.jsonl", "items.jsonl"):
        assert (tmp_path / "two" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    one, two = (json.loads((tmp_path / name / "scores.json").read_text())["metrics"] for name in ("one", "two"))
    assert one == two


def test_a_round(tmp_path: Path) -> None:
    """Up to the pairs byte for byte; training in two processes adds up in another order."""
    write_questions(tmp_path, SCENES, seed=5)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    world.run_ok([*command(tmp_path, tmp_path / "one"), "--config.rounds=1"])
    world.run_together([*command(tmp_path, tmp_path / "two"), "--config.rounds=1"], 2)
    one, two = (tmp_path / name / "out" for name in ("one", "two"))
    made = [path.relative_to(one) for path in sorted(one.rglob("*.jsonl")) if "train" not in path.parts]
    assert {"candidates.jsonl", "pairs.jsonl"} <= {path.name for path in made}
    for path in made:
        if not path.name.startswith(MADE_BY_CLOCK):
            assert (two / path).read_bytes() == (one / path).read_bytes(), path
    rounds = [json.loads((out / "state.json").read_text())["rounds"] for out in (one, two)]
    assert [account["chosen"] for account in rounds[0]] == [account["chosen"] for account in rounds[1]]
