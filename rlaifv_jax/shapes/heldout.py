"""What a model says about scenes it has never seen, and how much of it is true."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlaifv_jax.shapes.datasets import HeldOut, read_heldout, write_heldout
from rlaifv_jax.shapes.measure import Measurement, measure

MODELS = Path(__file__).parent / "models"  # shipped with the package: base, policy and labeler
MAX_NEW_TOKENS = 80  # seven sentences; no true caption has more than five
RATES = ("response_hallucination", "mention_hallucination", "recall", "mean_words")


def unseen(file: Path, scenes: int, seed: int, split: str = "heldout") -> list[HeldOut]:
    """Write `scenes` evaluation examples to `file` and read them back."""
    write_heldout(file, scenes, seed, split)
    return read_heldout(file)


def describe(model: Any, examples: Sequence[HeldOut]) -> list[str]:
    """Captions by greedy decoding in float32. `model`: whatever `convert.load.open_model` takes."""
    from rlaifv_jax.sampling.load import Speaker
    from rlaifv_jax.sampling.settings import Sampling

    speaker = Speaker(model, dtype="float32")
    engine = speaker.engine(Sampling(max_new_tokens=MAX_NEW_TOKENS))
    prompts = (
        speaker.prompter.prompt(example.question, example.image, name=str(number), tag=number)
        for number, example in enumerate(examples)
    )
    captions = {found.tag: found.answers[0].text for found in engine.generate(prompts)}
    return [captions[number] for number in range(len(examples))]


def judge(examples: Sequence[HeldOut], captions: Sequence[str]) -> Measurement:
    """The captions measured against the scenes."""
    return measure([example.scene for example in examples], captions)


def table(columns: dict[str, Measurement]) -> str:
    """Measurements side by side, a line a rate, for a terminal."""
    lines = [" " * 44 + "".join(f"{name:>12}" for name in columns)]
    for label, key, factor, unit in (
        ("captions with a false claim", "response_hallucination", 100, " %"),
        ("claims that are false", "mention_hallucination", 100, " %"),
        ("true things that are stated exactly (recall)", "recall", 100, " %"),
        ("words a caption", "mean_words", 1, "  "),
    ):
        values = "".join(f"{factor * getattr(m, key):>10.1f}{unit}" for m in columns.values())
        lines.append(f"{label:<44}{values}")
    return "\n".join(lines)
