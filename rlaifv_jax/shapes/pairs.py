"""Preference pairs of captions, judged by the scene itself.

Candidates imitate what the biased model would say at temperature 1: half follow the bias, half the truth, and
any of them may slip in an attribute or leave a thing out. The better of a pair has fewer false claims and
is not silent where the other is right.

Length must not give the answer away, or DPO learns brevity instead of sight. Most pairs are of equal length;
they punish wrong attributes, and extra things that stand in place of a forgotten one. To punish extra things
as such, some chosen captions are shorter by a sentence or more; each must be paid back by pairs whose chosen
caption is longer, so that the running sum of the gaps never rises above zero nor falls far below.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np

from rlaifv_jax.shapes.bias import Bias, biased_claims
from rlaifv_jax.shapes.captions import caption, count_words, error_kind
from rlaifv_jax.shapes.questions import change
from rlaifv_jax.shapes.scene import Scene, Thing

Claims = tuple[Thing, ...]
JudgedPair = tuple[Scene, tuple[Claims, Claims]]  # the scene, and claims of chosen and rejected caption
DEBT = -2  # sentences by which all chosen captions together may be shorter than all rejected ones


@dataclass(frozen=True)
class PairRecipe:
    """How candidates are drawn and pairs are chosen."""

    candidates: int = 10  # a scene
    per_scene: int = 2  # pairs at most
    slip: float = 0.05  # chance that a candidate has one attribute of one thing wrong
    omit: float = 0.35  # chance that a candidate leaves one thing out
    unequal: float = 0.8  # chance that a scene offers a pair of unequal length, if the balance allows it
    bias: Bias = field(default_factory=Bias)


def draw_candidates(scene: Scene, rng: np.random.Generator, recipe: PairRecipe) -> list[Claims]:
    """Distinct sets of claims in raster order, at most `recipe.candidates`, in the order they were drawn."""
    drawn: dict[Claims, None] = {}
    for _ in range(recipe.candidates):
        claims = list(biased_claims(scene, rng, recipe.bias) if rng.random() < 0.5 else scene.things)
        if rng.random() < recipe.omit:
            del claims[rng.integers(len(claims))]
        if rng.random() < recipe.slip:
            k = rng.integers(len(claims))
            claims[k] = change(claims[k], ("size", "color", "shape")[rng.integers(3)], rng)
        drawn[tuple(claims)] = None
    return list(drawn)


def choose_pairs(
    scene: Scene, candidates: Iterable[Claims], rng: np.random.Generator, recipe: PairRecipe, balance: int
) -> list[tuple[Claims, Claims]]:
    """At most `recipe.per_scene` pairs (chosen, rejected), no caption rejected twice.

    `balance` is the sum of the length gaps (chosen − rejected, in sentences) of all pairs before this scene;
    it stays between DEBT and 0 if it was.
    """
    pairs = [(a, b) for a, b in permutations(candidates, 2) if is_better(scene, a, b)]
    pairs = [pairs[k] for k in rng.permutation(len(pairs))]
    equal = [pair for pair in pairs if gap(pair) == 0]
    unequal = [pair for pair in pairs if gap(pair) != 0 and DEBT <= balance + gap(pair) <= 0]
    pairs = unequal[:1] + equal if rng.random() < recipe.unequal else equal
    kept: list[tuple[Claims, Claims]] = []
    for chosen, rejected in pairs:
        if len(kept) < recipe.per_scene and all(rejected != other for _, other in kept):
            kept.append((chosen, rejected))
    return kept


def is_better(scene: Scene, a: Claims, b: Claims) -> bool:
    """True if `a` has fewer false claims than `b` and keeps silent on no thing that `b` states truly."""
    fewer = count_false(scene, a) < count_false(scene, b)
    return fewer and all(thing in a for thing in scene if thing in b)


def count_false(scene: Scene, claims: Claims) -> int:
    """How many of the claims are not exactly things of the scene."""
    return sum(claim not in scene for claim in claims)


def gap(pair: tuple[Claims, Claims]) -> int:
    """Length of the chosen minus length of the rejected caption, in sentences."""
    return len(pair[0]) - len(pair[1])


def pair_statistics(pairs: Sequence[JudgedPair]) -> dict[str, Any]:
    """What a list of pairs teaches; lengths in words, the rest in claims or as a fraction of the pairs.

    `punished`: false claims that only the rejected caption makes, by kind of error. Zeros for no pairs.
    """
    punished: Counter[str] = Counter()
    words = np.zeros((len(pairs), 2))
    false = np.zeros((len(pairs), 2))
    for k, (scene, pair) in enumerate(pairs):
        words[k] = [count_words(caption(claims)) for claims in pair]
        false[k] = [count_false(scene, claims) for claims in pair]
        kinds = (error_kind(scene, claim) for claim in pair[1] if claim not in pair[0])
        punished.update(kind for kind in kinds if kind)
    gaps = words[:, 0] - words[:, 1]
    n = max(len(pairs), 1)
    return {
        "pairs": len(pairs),
        "mean_gap": float(gaps.sum()) / n,
        "equal": float((gaps == 0).sum()) / n,
        "chosen_shorter": float((gaps < 0).sum()) / n,
        "chosen_longer": float((gaps > 0).sum()) / n,
        "chosen_words": float(words[:, 0].sum()) / n,
        "rejected_words": float(words[:, 1].sum()) / n,
        "chosen_false": float(false[:, 0].sum()) / n,
        "rejected_false": float(false[:, 1].sum()) / n,
        "punished": dict(sorted(punished.items())),
    }
