"""Data of Object HalBench that is made here: the index of COCO's objects, and the small world's questions."""

from pathlib import Path

from eval.files import make_folder
from eval.objects.coco_index import write_index
from eval.objects.extractors import make_extractor
from eval.objects.index import FILE, read
from eval.objects.small_world import QUESTIONS, write_small_world
from rlaifv_jax.cli import say
from rlaifv_jax.errors import UserError
from rlaifv_jax.shapes.datasets import HeldOut
from rlaifv_jax.shapes.questions import DESCRIBE
from rlaifv_jax.shapes.scene import render
from rlaifv_jax.shapes.splits import scene_at

BENCHMARK = "object_halbench"


def make(data: Path, coco: Path | None, small_world: int, matcher: str) -> None:
    """In `data` where it has an index or questions of this benchmark already, else in its folder of that name.

    coco: folder of the annotations. small_world: number of scenes. matcher: an extractor.

    Raises:
      UserError: both or neither are wanted, an annotation file is missing, or other questions are there.
    """
    if bool(coco) == bool(small_world) or small_world < 0:
        raise UserError("give either --coco DIR or --small-world N, a number of scenes from 1 on")
    folder = data if (data / FILE).exists() or any(data.glob("*halbench*.jsonl")) else data / BENCHMARK
    make_folder(folder, "--data")
    if coco:
        extractor = make_extractor(matcher)
        say(f"reading COCO's annotations in {coco}")
        index = write_index(coco, folder / FILE, extractor)
        say(f"{folder / FILE}: objects of {len(index.fixed)} pictures, captions read by {index.extractor}")
        return
    _refuse_coco(folder)
    write_small_world(scenes(small_world), folder)
    say(f"{folder / QUESTIONS}: {small_world} scenes; score answers with --extractor shapes")


def scenes(number: int, seed: int = 0) -> list[HeldOut]:
    """Held-out examples as `rlaifv_jax.shapes.datasets.write_heldout` has them."""
    examples = []
    for index in range(number):
        scene, rng = scene_at(seed, "heldout", index)
        examples.append(HeldOut(DESCRIBE, render(scene, rng), scene, f"heldout-{index:06d}"))
    return examples


def _refuse_coco(folder: Path) -> None:
    """The small world's index has the same name as COCO's, and its questions would stand beside others."""
    others = [file.name for file in folder.glob("*.jsonl") if file.name != QUESTIONS]
    if others or ((folder / FILE).exists() and read(folder / FILE).world != "shapes"):
        raise UserError(f"{folder} holds data of COCO; choose another --data for the small world")
