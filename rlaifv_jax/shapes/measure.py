"""Hallucination of captions, measured against the scenes themselves."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from rlaifv_jax.shapes.captions import count_words, error_kind, parse
from rlaifv_jax.shapes.scene import Scene


@dataclass(frozen=True)
class Measurement:
    """Rates over a list of captions; fractions from 0 to 1 unless said otherwise."""

    response_hallucination: float  # captions with at least one false claim ÷ captions
    mention_hallucination: float  # false claims ÷ claims; 0 where nothing is claimed
    recall: float  # true things stated exactly (all four attributes) ÷ true things
    mean_words: float  # words a caption, full stops counted
    malformed: int  # unreadable sentences; each also counts as a false claim above
    n: int  # captions
    errors: dict[str, int] = field(default_factory=dict)  # false claims by `error_kind`, and 'malformed'


def measure(scenes: Sequence[Scene], captions: Sequence[str]) -> Measurement:
    """Measure `captions[k]` against `scenes[k]`.

    A claim is false when it is not exactly a thing of the scene; a thing stated twice is recalled once.
    Raises ValueError for no captions at all or lists of unequal length.
    """
    if not captions or len(scenes) != len(captions):
        raise ValueError(f"need as many captions as scenes, at least one: {len(captions)} and {len(scenes)}")
    errors: Counter[str] = Counter()
    hallucinated = claims = recalled = things = words = 0
    for scene, caption in zip(scenes, captions, strict=True):
        parsed = parse(caption)
        kinds = [kind for claim in parsed.claims if (kind := error_kind(scene, claim))]
        kinds += ["malformed"] * parsed.malformed
        errors.update(kinds)
        hallucinated += bool(kinds)
        claims += len(parsed.claims) + parsed.malformed
        recalled += sum(thing in parsed.claims for thing in scene)
        things += len(scene)
        words += count_words(caption)
    return Measurement(
        response_hallucination=hallucinated / len(captions),
        mention_hallucination=sum(errors.values()) / max(claims, 1),
        recall=recalled / max(things, 1),
        mean_words=words / len(captions),
        malformed=errors["malformed"],
        n=len(captions),
        errors=dict(sorted(errors.items())),
    )
