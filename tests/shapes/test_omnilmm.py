"""Tiny OmniLMMs that are built here: one makes things up and is mended by DPO, one labels for a LLaVA."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from configs import iterate_shapes
from rlaifv_jax.feedback.chain import Feedback
from rlaifv_jax.records.shards import read_shards
from rlaifv_jax.shapes import agreement, heldout
from rlaifv_jax.shapes.ask import write_questions
from rlaifv_jax.shapes.build import newest
from rlaifv_jax.train import train
from tests.world import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directories `policy` and `labeler`."""
    folder = tmp_path_factory.mktemp("omnilmm")
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    program = [sys.executable, "-m", "tests.shapes.omnilmm", str(folder)]
    subprocess.run(program, cwd=ROOT, env=environment, check=True)
    return folder


def test_dpo_halves_what_is_made_up(built: Path, tmp_path: Path) -> None:
    """One round of feedback by the shipped labeler, a LLaVA."""
    policy = built / "policy"
    write_questions(tmp_path, 600, seed=0)
    config = iterate_shapes.get_config()
    feedback, training = config.feedback, config.training
    feedback.policy.model, feedback.questions = str(policy), str(tmp_path / "questions.jsonl")
    feedback.output_dir = str(tmp_path / "feedback")
    Feedback(feedback).all()
    training.model.path, training.data.path = str(policy), str(tmp_path / "feedback" / "pairs")
    training.output_dir = str(tmp_path / "run")
    train(training)
    examples = heldout.unseen(tmp_path / "heldout.parquet", 200, seed=0)
    before, after = (
        heldout.judge(examples, heldout.describe(model, examples)) for model in (policy, newest(tmp_path / "run"))
    )
    print(heldout.table({"before": before, "after": after}))
    assert before.response_hallucination > 0.25
    assert after.response_hallucination <= before.response_hallucination / 2
    assert after.recall >= before.recall


def test_it_labels_for_a_llava(built: Path, tmp_path: Path) -> None:
    scenes = write_questions(tmp_path, 60, seed=1)
    feedback = iterate_shapes.get_config().feedback
    feedback.policy.model, feedback.questions = str(heldout.MODELS / "policy"), str(tmp_path / "questions.jsonl")
    feedback.score.model, feedback.output_dir = str(built / "labeler"), str(tmp_path / "feedback")
    Feedback(feedback).all()
    records = list(read_shards(tmp_path / "feedback" / "score"))
    right = agreement.of_feedback(records, {f"feedback-{n:06d}": scene for n, scene in enumerate(scenes)})
    print(agreement.table(right))
    assert agreement.overall(right) > 0.85
    assert sum(sum(record["scores"].values()) for record in records) / len(records) > 0.9  # it answers yes or no
