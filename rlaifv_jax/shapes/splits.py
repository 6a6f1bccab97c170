"""Which scenes belong to which use, and one random generator for each of them.

A scene's *content* decides whether it may be trained on: one in eight of all possible scenes is kept for
evaluation. So no training split, of whatever seed and size, ever holds a scene of a held-out split.
"""

import zlib

import numpy as np

from rlaifv_jax.shapes.scene import Scene, sample_scene

SPLITS = {"base": 0, "policy": 1, "labeler": 2, "pairs": 3, "feedback": 4, "heldout": 5, "validation": 6, "seeing": 7}
EVALUATION = ("heldout", "validation")  # draw from the same kept eighth, with different generators


def scene_at(seed: int, split: str, index: int) -> tuple[Scene, np.random.Generator]:
    """Scene `index` of a split, and its own generator for all that is still to be drawn about it.

    A pure function of the three arguments. Raises KeyError for a split not in SPLITS.
    """
    rng = np.random.default_rng([seed, SPLITS[split], index])
    while True:
        scene = sample_scene(rng)
        if is_heldout(scene) == (split in EVALUATION):
            return scene, rng


def is_heldout(scene: Scene) -> bool:
    """True for the eighth of all scenes that is kept for evaluation."""
    return zlib.crc32(scene.to_json().encode()) % 8 == 0
