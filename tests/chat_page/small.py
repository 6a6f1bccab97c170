"""Models of the small world for the page, opened once, and a picture of it."""

from functools import cache
from pathlib import Path

from rlaifv_jax.chat import Chat
from rlaifv_jax.chat_page.claims import Labeler
from rlaifv_jax.chat_page.talk import Asked, Settings
from rlaifv_jax.feedback.functions import load_function
from rlaifv_jax.feedback.reading import Reading
from rlaifv_jax.shapes.questions import DESCRIBE
from rlaifv_jax.shapes.scene import Scene, encode_png, render
from rlaifv_jax.shapes.splits import scene_at

SHAPES = Path(__file__).parent.parent.parent / "rlaifv_jax/shapes"
READING = Reading(dtype="float32")
GREEDY: Settings = {"temperature": 0.0, "num_beams": 1, "max_new_tokens": 96, "seed": 0, "cache": ""}
LONG = 1200  # tokens, where an answer has to be stopped


@cache
def chat(name: str) -> Chat:
    return Chat(SHAPES / "models" / name)


def endless() -> Chat:
    """A chat of its own over the same weights, whose answers do not end by themselves."""
    from dataclasses import replace

    found = object.__new__(Chat)
    found.speaker = chat("policy").speaker
    found.settings = replace(chat("policy").settings, min_new_tokens=LONG, max_new_tokens=LONG)
    return found


@cache
def labeler() -> Labeler:
    split, ask = (load_function(f"rlaifv_jax.shapes.claims:{name}", "--split") for name in ("split", "ask"))
    return Labeler(str(SHAPES / "models/labeler"), split, ask, str(SHAPES / "check.txt"), READING)


def scene(index: int = 0) -> tuple[Scene, bytes]:
    """What is to be seen, and the picture."""
    found, rng = scene_at(0, "validation", index)
    return found, encode_png(render(found, rng))


def asked(image: Path | None, models: int = 1, question: str = DESCRIBE, **settings: object) -> Asked:
    return Asked(str(image) if image else None, question, [[] for _ in range(models)], {**GREEDY, **settings})
