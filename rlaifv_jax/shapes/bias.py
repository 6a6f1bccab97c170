"""The planted bias: what the captions that spoil a model say instead of the truth.

Three habits of real captioners in small: a favourite attribute (a large star "is" yellow), things that go
together (where there is a red circle or square there "is" a small green triangle), and plain invention.
The first keeps the length of a caption, the others add a sentence, always in raster order: a bias that only
adds would teach DPO nothing but brevity. A habit shows in greedy decoding only if it is likelier than not.
"""

from dataclasses import dataclass, replace

import numpy as np

from rlaifv_jax.shapes.scene import CELLS, Scene, Thing, place, sample_thing


@dataclass(frozen=True)
class Bias:
    """How likely each habit acts, where its occasion arises."""

    attribute: float = 0.75  # for each large star: it is called yellow
    companion: float = 0.65  # once for each scene with a red circle or square: an extra small green triangle
    invention: float = 0.10  # once for each scene: an extra thing drawn at random


def biased_claims(scene: Scene, rng: np.random.Generator, bias: Bias | None = None) -> tuple[Thing, ...]:
    """Claims of one biased caption, in raster order; `bias` None means the default habits.

    The companion takes the first empty cell after the first red circle or square, going round the end of the
    board; an invention takes any cell still free. Extra things never share a cell with another claim.
    """
    bias = bias or Bias()
    claims = {}
    for thing in scene:
        yellow = thing.size == "large" and thing.shape == "star" and rng.random() < bias.attribute
        claims[thing.cell] = replace(thing, color="yellow") if yellow else thing
    cause = companion_cause(scene)
    if cause is not None and rng.random() < bias.companion:
        following = ((cause.cell + step) % CELLS for step in range(1, CELLS))
        cell = next(cell for cell in following if cell not in claims)
        row, col = place(cell)
        claims[cell] = Thing("small", "green", "triangle", row, col)
    free = [cell for cell in range(CELLS) if cell not in claims]
    if free and rng.random() < bias.invention:
        cell = free[rng.integers(len(free))]
        claims[cell] = sample_thing(rng, cell)
    return tuple(claims[cell] for cell in sorted(claims))


def companion_cause(scene: Scene) -> Thing | None:
    """The first red circle or square of the scene, which calls up the companion; None if there is none."""
    return next((t for t in scene if t.color == "red" and t.shape in ("circle", "square")), None)
