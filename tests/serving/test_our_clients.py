"""Our own feedback client and `generate --server` against our own server."""

from pathlib import Path

import pytest

from rlaifv_jax.feedback.rules import WORDS
from rlaifv_jax.shapes.heldout import MODELS
from tests.feedback.chain import make, make_config, read_stage
from tests.feedback.labelers import write_captions
from tests.feedback.test_by_server import server_config
from tests.sampling.talker import Talker
from tests.serving.running import NAME, running
from tests.test_generate import COUNT, write_questions
from tests.test_generate_by_server import N, ask


def test_a_served_labeler_gives_the_local_one_s_verdicts(tmp_path: Path) -> None:
    truth = write_captions(tmp_path, 4)
    prompt = str(MODELS.parent / "check.txt")
    here = read_stage(
        make(make_config(tmp_path, MODELS / "labeler", score__prompt=prompt), "divide", "question", "score") / "score"
    )
    with running(MODELS / "labeler", tmp_path) as server:
        changes = {"score__prompt": prompt, "score__timeout": 60.0, "score__model": NAME, "score__require_model": True}
        config = server_config(tmp_path, server.url, **changes)
        config.score.input, config.output_dir = str(tmp_path / "out" / "question"), str(tmp_path / "there")
        there = read_stage(make(config, "score") / "score")
    assert len(here) == len(there) == len(truth)
    for one, other in zip(here, there, strict=True):
        assert "error" not in other
        assert other["answer"] == one["answer"]
        assert [other["scores"][word] for word in WORDS] == pytest.approx(
            [one["scores"][word] for word in WORDS], abs=1e-4
        )
        assert other["margin"] == pytest.approx(one["margin"], abs=1e-4)
    assert len({record["answer"] for record in there}) > 1


def test_generate_by_the_server_is_the_same_each_time(tmp_path: Path, talker: Talker) -> None:
    """Seeds decide, whatever runs beside."""
    questions = write_questions(tmp_path)
    how = ("--model", NAME, "--top-p", "0.9", "--max-new-tokens", "24", "--stop", "###")
    with running(talker.folder, tmp_path) as server:
        status, records = ask(server.url, questions, tmp_path / "a.jsonl", *how)
        assert ask(server.url, questions, tmp_path / "b.jsonl", *how, "--concurrency", "2") == (0, records)
    assert status == 0
    assert len(records) == N * COUNT
    assert not [record for record in records if "error" in record or "server_model" in record]
    assert len({record["answer"] for record in records}) > 0.9 * len(records)
