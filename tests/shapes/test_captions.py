"""Captions, questions, and the truth about them."""

import numpy as np
import pytest

from rlaifv_jax.shapes.captions import caption, count_words, draw_phrasings, error_kind, parse, sentence
from rlaifv_jax.shapes.questions import DESCRIBE, NEAR_MISSES, ask_if, ask_what, near_miss, truth
from rlaifv_jax.shapes.scene import CELLS, Scene, Thing, sample_scene

CIRCLE = Thing("large", "red", "circle", "top", "left")
STAR = Thing("small", "blue", "star", "middle", "center")
SCENE = Scene((CIRCLE, STAR))


@pytest.mark.parametrize("seed", range(200))
def test_a_caption_reads_back_as_its_scene(seed: int):
    rng = np.random.default_rng(seed)
    scene = sample_scene(rng)
    text = caption(scene, draw_phrasings(rng))
    parsed = parse(text)
    assert parsed.claims == scene.things
    assert parsed.malformed == 0
    assert count_words(text) == len(text.split()) == 11 * len(scene)


def test_wording():
    assert sentence(CIRCLE) == "there is a large red circle in the top left ."
    assert caption([STAR, CIRCLE], [0] * 4 + [1] * 5) == (
        "there is a large red circle in the top left . i see a small blue star at the middle center ."
    )


@pytest.mark.parametrize(
    "text",
    [
        "there is a large red circle in the top left.i see a small blue star at the middle center.",
        "  There is a large red circle\nin the top left . I see a small  blue star at the middle center",
        "there is a large red circle in the top left . . i see a small blue star at the middle center  . ",
    ],
)
def test_spacing_and_case_do_not_matter(text: str):
    assert parse(text).claims == (CIRCLE, STAR)
    assert parse(text).malformed == 0


@pytest.mark.parametrize(
    ("text", "claims", "malformed"),
    [
        ("", 0, 0),
        ("there is a large red circle in the top", 0, 1),
        ("there is a red circle in the top left .", 0, 1),
        ("there is a large red circle in the top left . nothing .", 1, 1),
        ("there is a large pink circle in the top left . i see", 0, 2),
    ],
)
def test_unreadable_sentences_are_counted(text: str, claims: int, malformed: int):
    parsed = parse(text)
    assert (len(parsed.claims), parsed.malformed) == (claims, malformed)


def test_true_answers():
    assert truth(SCENE, "is there in the top left a large red circle ?") == "yes"
    assert truth(SCENE, "Is there in the top left a large red circle?") == "yes"
    assert truth(SCENE, "is there in the top right a large red circle ?") == "no"
    assert truth(SCENE, "what is in the middle center ?") == "small blue star"
    assert truth(SCENE, "what is in the bottom left ?") == "nothing"
    for question in (DESCRIBE, "is it large ?"):
        with pytest.raises(ValueError, match="one answer"):
            truth(SCENE, question)


def test_questions_of_random_scenes_have_their_truth():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scene = sample_scene(rng)
        for thing in scene:
            assert truth(scene, ask_if(thing)) == "yes"
            assert truth(scene, ask_what(thing.cell)) == f"{thing.size} {thing.color} {thing.shape}"
        assert {truth(scene, ask_what(cell)) for cell in scene.empty_cells()} == {"nothing"}
        for kind in (None, *NEAR_MISSES):
            assert truth(scene, ask_if(near_miss(scene, rng, kind))) == "no"


def test_near_misses_are_of_the_kind_asked_for():
    rng = np.random.default_rng(0)
    for _ in range(50):
        for kind in ("size", "color", "shape"):
            assert error_kind(SCENE, near_miss(SCENE, rng, kind)) == kind
        assert error_kind(SCENE, near_miss(SCENE, rng, "empty_cell")) == "extra"
        assert near_miss(SCENE, rng, "other_cell").cell in (CIRCLE.cell, STAR.cell)
    with pytest.raises(ValueError, match="unknown kind"):
        near_miss(SCENE, rng, "weather")


def test_other_cell_falls_back_when_all_things_look_the_same():
    twins = Scene((CIRCLE, Thing("large", "red", "circle", "top", "right")))
    assert error_kind(twins, near_miss(twins, np.random.default_rng(0), "other_cell")) == "extra"


def test_draws_use_both_phrasings():
    draws = np.array([draw_phrasings(np.random.default_rng(seed)) for seed in range(300)])
    assert draws.shape == (300, CELLS)
    assert abs(draws.mean() - 0.3) < 0.03
