"""Questions and index of the small world, for Object HalBench with the shapes extractor."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from eval.objects.extractors.shapes import Shapes, label
from eval.objects.index import FILE, ObjectIndex, write
from rlaifv_jax.records.settings import write_whole
from rlaifv_jax.shapes.datasets import HeldOut
from rlaifv_jax.shapes.scene import encode_png

QUESTIONS = "questions.jsonl"


def small_world_index(examples: Sequence[HeldOut]) -> ObjectIndex:
    """Image id (the example's `idx`) → its things as `label` has them."""
    classes = {example.idx: sorted(map(label, example.scene)) for example in examples}
    return ObjectIndex("shapes", Shapes.name, classes, classes)


def write_small_world(examples: Sequence[HeldOut], folder: Path) -> None:
    """A folder of data as Object HalBench has it: questions.jsonl with pictures in base64, and the index."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        {
            "image_id": example.idx,
            "question": example.question,
            "image": base64.b64encode(encode_png(example.image)).decode(),
        }
        for example in examples
    ]
    write_whole(folder / QUESTIONS, (json.dumps(line) + "\n" for line in lines))
    write(small_world_index(examples), folder / FILE)
