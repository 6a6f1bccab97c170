"""What the tiny model is taught: conversations about one scene, for the `sft` objective."""

from collections.abc import Mapping

import numpy as np

from rlaifv_jax.shapes.bias import Bias, biased_claims
from rlaifv_jax.shapes.captions import caption, draw_phrasings
from rlaifv_jax.shapes.questions import (
    DESCRIBE,
    HARD_MISSES,
    MISSES,
    ask_if,
    ask_what,
    ask_whole,
    claim_about,
    truth,
)
from rlaifv_jax.shapes.scene import CELLS, Scene

Turns = list[tuple[str, str]]  # question and answer, in order; the image belongs to the first question

BASE_MIX = {"caption": 0.4, "yes_no": 0.3, "what": 0.3}
POLICY_MIX = {"caption": 0.75, "yes_no": 0.2, "what": 0.05}
SEEING_MIX = {"caption": 0.3, "yes_no": 0.5, "what": 0.2}  # a labeler learns to see first, and then to doubt
LABELER_MIX = {"caption": 0.1, "hard_yes_no": 0.65, "what": 0.1, "whole": 0.15}
TASKS = ("caption", "yes_no", "hard_yes_no", "what", "whole")
YES_NO_TURNS = 6
WHAT_TURNS = 5


def draw_task(rng: np.random.Generator, mix: Mapping[str, float]) -> str:
    """One of TASKS by the weights of `mix` (any positive sum).

    Raises ValueError for an unknown task or weights that are negative or all zero.
    """
    weights = np.array(list(mix.values()), dtype=float)
    if set(mix) - set(TASKS) or weights.min(initial=0.0) < 0 or weights.sum() <= 0:
        raise ValueError(f"a mix needs weights for some of {', '.join(TASKS)}: {dict(mix)}")
    return list(mix)[rng.choice(len(weights), p=weights / weights.sum())]


def conversation(scene: Scene, rng: np.random.Generator, task: str, bias: Bias | None = None) -> Turns:
    """Questions and answers of one task. `bias` None is honest, else it colours captions, and only those.

    yes_no and hard_yes_no ask up to 6 times, about different cells, so that no answer helps with another; what asks
    about 5 cells; whole asks once about a whole caption, true or false with even odds.
    Raises KeyError for an unknown task.
    """
    if task == "caption":
        return _captioning(scene, rng, bias)
    return {
        "yes_no": lambda: _yes_no(scene, rng, MISSES),
        "hard_yes_no": lambda: _yes_no(scene, rng, HARD_MISSES),
        "what": lambda: _what(scene, rng),
        "whole": lambda: _whole(scene, rng),
    }[task]()


def _captioning(scene: Scene, rng: np.random.Generator, bias: Bias | None) -> Turns:
    claims = scene.things if bias is None else biased_claims(scene, rng, bias)
    return [(DESCRIBE, caption(claims, draw_phrasings(rng)))]


def _yes_no(scene: Scene, rng: np.random.Generator, misses: Mapping[str, int]) -> Turns:
    empty = rng.permutation(scene.empty_cells())[: max(1, len(scene) // 3)]
    cells = rng.permutation([*(thing.cell for thing in scene), *empty])[:YES_NO_TURNS]
    questions = [ask_if(claim_about(scene, int(cell), rng, misses)) for cell in cells]
    return [(question, truth(scene, question)) for question in questions]


def _whole(scene: Scene, rng: np.random.Generator) -> Turns:
    claims = {thing.cell: thing for thing in scene}
    if rng.random() < 0.5:
        cell = int(rng.integers(CELLS))
        claims[cell] = claim_about(scene, cell, rng, HARD_MISSES)  # now and then true after all
    question = ask_whole(caption(claims.values(), draw_phrasings(rng)))
    return [(question, truth(scene, question))]


def _what(scene: Scene, rng: np.random.Generator) -> Turns:
    questions = [ask_what(int(cell)) for cell in rng.permutation(CELLS)[:WHAT_TURNS]]
    return [(question, truth(scene, question)) for question in questions]
