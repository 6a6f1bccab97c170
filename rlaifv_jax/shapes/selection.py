"""Choosing among the checkpoints of a round in the small world: by scenes kept for that alone."""

from pathlib import Path
from typing import Any

from rlaifv_jax.shapes import heldout

SCENES = 200


def measure(model: Path, work: Path, config: Any) -> dict[str, float]:
    """Rates on scenes of the split 'validation'. score: recall less the share of captions with a false claim."""
    work.mkdir(parents=True, exist_ok=True)
    examples = heldout.unseen(work / "scenes.parquet", SCENES, config.seed, "validation")
    found = heldout.judge(examples, heldout.describe(model, examples))
    rates = {name: getattr(found, name) for name in heldout.RATES}
    return {"score": found.recall - found.response_hallucination, "answers": found.n, **rates}
