"""What the tiny model is taught: conversations about one scene, for the `sft` objective."""

from collections.abc import Mapping

import numpy as np

from rlaifv_jax.shapes.bias import Bias, biased_claims
from rlaifv_jax.shapes.captions import caption, draw_phrasings
from rlaifv_jax.shapes.questions import DESCRIBE, ask_if, ask_what, claim_about, truth
from rlaifv_jax.shapes.scene import CELLS, Scene

Turns = list[tuple[str, str]]  # question and answer, in order; the image belongs to the first question

BASE_MIX = {"caption": 0.4, "yes_no": 0.3, "what": 0.3}
POLICY_MIX = {"caption": 0.75, "yes_no": 0.2, "what": 0.05}
LABELER_MIX = {"caption": 0.2, "yes_no": 0.6, "what": 0.2}
YES_NO_TURNS = 6
WHAT_TURNS = 5


def draw_task(rng: np.random.Generator, mix: Mapping[str, float]) -> str:
    """One of 'caption', 'yes_no', 'what' by the weights of `mix` (any positive sum).

    Raises ValueError for an unknown task or weights that are negative or all zero.
    """
    weights = np.array(list(mix.values()), dtype=float)
    if set(mix) - set(BASE_MIX) or weights.min(initial=0.0) < 0 or weights.sum() <= 0:
        raise ValueError(f"a mix needs weights for some of {', '.join(BASE_MIX)}: {dict(mix)}")
    return list(mix)[rng.choice(len(weights), p=weights / weights.sum())]


def conversation(scene: Scene, rng: np.random.Generator, task: str, bias: Bias | None = None) -> Turns:
    """Questions and answers of one task. `bias` None is honest, else it colours captions, and only those.

    yes_no asks up to 6 times, about different cells, so that no answer helps with another; what asks about 5 cells.
    Raises KeyError for an unknown task.
    """
    return {"caption": _captioning, "yes_no": _yes_no, "what": _what}[task](scene, rng, bias)


def _captioning(scene: Scene, rng: np.random.Generator, bias: Bias | None) -> Turns:
    claims = scene.things if bias is None else biased_claims(scene, rng, bias)
    return [(DESCRIBE, caption(claims, draw_phrasings(rng)))]


def _yes_no(scene: Scene, rng: np.random.Generator, bias: Bias | None) -> Turns:
    empty = rng.permutation(scene.empty_cells())[: max(1, len(scene) // 3)]
    cells = rng.permutation([*(thing.cell for thing in scene), *empty])[:YES_NO_TURNS]
    questions = [ask_if(claim_about(scene, int(cell), rng)) for cell in cells]
    return [(question, truth(scene, question)) for question in questions]


def _what(scene: Scene, rng: np.random.Generator, bias: Bias | None) -> Turns:
    questions = [ask_what(int(cell)) for cell in rng.permutation(CELLS)[:WHAT_TURNS]]
    return [(question, truth(scene, question)) for question in questions]
