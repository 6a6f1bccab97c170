"""The small world through the commands: two engines agree, and figures are the demo's own."""

import json
from pathlib import Path
from typing import Any

import pytest

from eval import commands, flags
from eval.objects.making import scenes
from rlaifv_jax.shapes import heldout

SCENES = 20


def eval_(*arguments: Any) -> int:
    given = flags.parse([str(argument) for argument in arguments], "doc")
    return int(getattr(commands, given.verb)(given))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    eval_("data", "--small-world", SCENES, "--data", folder)
    return folder


def answers(out: Path) -> list[str]:
    return [json.loads(line)["answer"] for line in (out / "answers.jsonl").read_text().splitlines()]


def test_figures_are_the_demo_s_and_engines_agree(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    model = heldout.MODELS / "policy"
    for engine in ("jax", "transformers"):
        given = ("--data", data, "--model", model, "--engine", engine, "--output", tmp_path / engine)
        how = ("--extractor", "shapes", "--max-new-tokens", heldout.MAX_NEW_TOKENS, "--num-beams", 2)
        assert eval_("run", "object_halbench", *given, *how) == 0
    assert answers(tmp_path / "jax") == answers(tmp_path / "transformers")
    report = json.loads((tmp_path / "jax" / "scores.json").read_text())
    measured = heldout.judge(scenes(SCENES), answers(tmp_path / "jax"))
    metrics = report["metrics"]
    assert metrics["CHAIRs"] == pytest.approx(measured.response_hallucination)
    assert metrics["CHAIRi"] == pytest.approx(measured.mention_hallucination)
    assert metrics["obj_rec"] == pytest.approx(measured.recall)
    assert metrics["avg_word_len"] == pytest.approx(measured.mean_words)
    assert 0 < metrics["CHAIRs"] < 1
    assert report["generation"]["engine"] == "jax"
    assert len(list((tmp_path / "jax" / "pictures").glob("*.jpg"))) == SCENES
