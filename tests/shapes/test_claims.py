"""Claims of captions by the grammar, their questions, and ablations of all that."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from rlaifv_jax.shapes.ablations import VARIANTS, shuffle, table
from rlaifv_jax.shapes.ask import write_questions
from rlaifv_jax.shapes.captions import caption
from rlaifv_jax.shapes.claims import ask, ask_whole, split, undivided
from rlaifv_jax.shapes.datasets import write_pairs
from rlaifv_jax.shapes.questions import HARD_MISSES, MISSES, ask_if, claim_about, truth
from rlaifv_jax.shapes.scene import CELLS, sample_scene


def test_a_sentence_is_a_claim_and_has_a_question() -> None:
    scene = sample_scene(np.random.default_rng(0))
    claims = split("describe the image .", caption(scene))
    assert " ".join(claims) == caption(scene)
    assert ask(claims) == [ask_if(thing) for thing in scene]
    assert all(truth(scene, question) == "yes" for question in ask(claims))


def test_what_is_no_sentence_of_this_world_is_asked_as_it_stands() -> None:
    assert split("q", "there is a  large . . red circle") == ["there is a large .", "red circle ."]
    assert ask(["there is a large ."]) == ["is there there is a large ?"]
    assert split("q", " ") == []


def test_a_whole_answer() -> None:
    scene = sample_scene(np.random.default_rng(1))
    (claim,) = undivided("q", caption(scene))
    (question,) = ask_whole([claim])
    assert truth(scene, question) == "yes"
    other = sample_scene(np.random.default_rng(2))
    assert truth(other, question) == "no"


def test_claims_about_cells_are_true_or_nearly() -> None:
    rng = np.random.default_rng(0)
    for misses in (MISSES, HARD_MISSES):
        true = 0
        for _ in range(300):
            scene = sample_scene(rng)
            cell = int(rng.integers(CELLS))
            claim = claim_about(scene, cell, rng, misses)
            assert claim.cell == cell
            true += claim in scene
        assert 0 < true < 150  # most cells are empty


def test_questions_and_pictures(tmp_path: Path) -> None:
    scenes = write_questions(tmp_path, 3, seed=0)
    assert len(scenes) == len(list((tmp_path / "pictures").iterdir())) == 3
    assert "scene" not in (tmp_path / "questions.jsonl").read_text()


def test_shuffled_pairs(tmp_path: Path) -> None:
    (tmp_path / "pairs").mkdir()
    write_pairs(tmp_path / "pairs" / "00000.parquet", 60, seed=0)
    (tmp_path / "pairs" / "manifest.json").write_text("{}")
    shuffle(tmp_path / "pairs", tmp_path / "shuffled", seed=0)
    before, after = (pq.read_table(tmp_path / name / "00000.parquet") for name in ("pairs", "shuffled"))
    swapped = 0
    for one, other in zip(before.to_pylist(), after.to_pylist(), strict=True):
        assert {one["chosen"], one["rejected"]} == {other["chosen"], other["rejected"]}
        swapped += one["chosen"] != other["chosen"]
        assert one["image"] == other["image"]
    assert 0.3 < swapped / len(before) < 0.7


def test_the_table_of_ablations() -> None:
    rates = {
        "response_hallucination": [0.1, 0.2],
        "mention_hallucination": [0.1],
        "recall": [1.0],
        "mean_words": [40.0],
    }
    text = table({VARIANTS[0].name: rates}, {"8": [0.5, 0.6]})
    assert "| as it is | 15.0 ± 7.1 | 10.0 | 100.0 | 40.0 |" in text
    assert "| 8 | 55.0 ± 7.1 |" in text
