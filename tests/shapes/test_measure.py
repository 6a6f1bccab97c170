"""The planted bias, and the measurement that must find it."""

import numpy as np
import pytest

from rlaifv_jax.shapes.bias import Bias, biased_claims, companion_cause
from rlaifv_jax.shapes.captions import caption
from rlaifv_jax.shapes.measure import measure
from rlaifv_jax.shapes.scene import Scene, Thing, sample_scene
from rlaifv_jax.shapes.splits import scene_at

CIRCLE = Thing("large", "red", "circle", "top", "left")
STAR = Thing("large", "blue", "star", "middle", "center")
SCENE = Scene((CIRCLE, STAR))
GOOD = caption(SCENE)


def test_by_hand():
    wrong_color = GOOD.replace("blue", "yellow")
    extra = GOOD + " there is a small green triangle in the bottom left ."
    result = measure([SCENE] * 4, [GOOD, wrong_color, extra, "there is a large red circle in the top left . i see a"])
    assert result.response_hallucination == 3 / 4
    assert result.mention_hallucination == 3 / 9
    assert result.recall == 6 / 8
    assert result.mean_words == (22 + 22 + 33 + 14) / 4
    assert (result.malformed, result.n) == (1, 4)
    assert result.errors == {"color": 1, "extra": 1, "malformed": 1}


def test_silence_and_repetition():
    silent = measure([SCENE], [""])
    assert (silent.response_hallucination, silent.mention_hallucination, silent.recall) == (0, 0, 0)
    twice = measure([SCENE], [f"{GOOD} {GOOD}"])
    assert (twice.mention_hallucination, twice.recall, twice.mean_words) == (0, 1, 44)


def test_needs_as_many_captions_as_scenes():
    for scenes, captions in (([], []), ([SCENE], []), ([SCENE], [GOOD, GOOD])):
        with pytest.raises(ValueError, match="as many"):
            measure(scenes, captions)


def test_habits_have_their_rates():
    stars, yellow, causes, companions, inventions = 0, 0, 0, 0, 0
    for seed in range(2000):
        rng = np.random.default_rng([7, seed])
        scene = sample_scene(rng)
        claims = biased_claims(scene, rng)
        said = {claim.cell: claim for claim in claims}
        assert list(said) == sorted(said)
        for thing in scene:
            star = (thing.size, thing.shape) == ("large", "star") and thing.color != "yellow"
            stars += star
            yellow += said[thing.cell] != thing
            assert star or said[thing.cell] == thing
        extras = [claim for claim in claims if claim.cell in scene.empty_cells()]
        companion = [e for e in extras if (e.size, e.color, e.shape) == ("small", "green", "triangle")]
        if companion_cause(scene):
            causes += 1
            companions += bool(companion)
        inventions += len(extras) - len(companion)
    assert abs(yellow / stars - 0.75) < 0.05
    assert abs(companions / causes - 0.65) < 0.07
    assert abs(inventions / 2000 - 0.10) < 0.03


def test_the_companion_takes_the_next_empty_cell_and_goes_round_the_board():
    always = Bias(attribute=0, companion=1, invention=0)
    last = Thing("small", "red", "square", "bottom", "right")
    claims = biased_claims(Scene((STAR, last)), np.random.default_rng(0), always)
    assert claims == (Thing("small", "green", "triangle", "top", "left"), STAR, last)


def test_biased_captions_hallucinate_and_honest_ones_do_not():
    drawn = [scene_at(0, "heldout", k) for k in range(300)]
    scenes = [scene for scene, _ in drawn]
    honest = measure(scenes, [caption(scene) for scene in scenes])
    assert (honest.response_hallucination, honest.mention_hallucination, honest.recall) == (0, 0, 1)
    biased = measure(scenes, [caption(biased_claims(scene, rng)) for scene, rng in drawn])
    assert 0.3 < biased.response_hallucination < 0.6
    assert 0.8 < biased.recall < 0.97
