"""Parquet files of the small world. The same arguments give the same bytes.

Images are PNG files inside the column `image` (struct of `bytes` and `path`), as in RLAIF-V-Dataset.
No text holds an image tag; the reader puts the image before the first question.
"""

import io
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from rlaifv_jax.shapes.bias import Bias
from rlaifv_jax.shapes.captions import caption, draw_phrasings
from rlaifv_jax.shapes.pairs import (
    JudgedPair,
    PairRecipe,
    choose_pairs,
    draw_candidates,
    gap,
    pair_statistics,
)
from rlaifv_jax.shapes.questions import DESCRIBE
from rlaifv_jax.shapes.scene import Scene, encode_png, render
from rlaifv_jax.shapes.splits import scene_at
from rlaifv_jax.shapes.tasks import conversation, draw_task

NAME = "shapes"
_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_ABOUT = [("origin_dataset", pa.string()), ("origin_split", pa.string()), ("idx", pa.string())]
_PATH = [("image_path", pa.string())]
_TURN = pa.struct([("from", pa.string()), ("value", pa.string())])
SFT_SCHEMA = pa.schema(
    [("ds_name", pa.string()), ("image", _IMAGE), ("conversations", pa.list_(_TURN)), *_ABOUT, *_PATH]
)
PAIR_SCHEMA = pa.schema(
    [("ds_name", pa.string()), ("image", _IMAGE)]
    + [(name, pa.string()) for name in ("question", "chosen", "rejected")]
    + [*_ABOUT, *_PATH]
)
HELDOUT_SCHEMA = pa.schema(
    [("ds_name", pa.string()), ("image", _IMAGE)]
    + [(name, pa.string()) for name in ("question", "scene", "idx", "image_path")]
)


@dataclass(frozen=True)
class HeldOut:
    """One evaluation example: what the model is given, and the scene to measure its caption against."""

    question: str
    image: Image.Image  # RGB
    scene: Scene
    idx: str


def write_sft(
    path: str | Path,
    scenes: int,
    seed: int,
    mix: Mapping[str, float],
    biased: Bias | bool = False,
    split: str = "base",
) -> dict[str, int]:
    """Write one training conversation for each of `scenes` scenes; return how many rows each task got.

    `conversations` is a list of {from: human|gpt, value: text}. `mix` weighs the tasks (see `tasks`).
    `biased` makes captions follow the planted bias (True: the default one). Raises ValueError for a bad mix.
    """
    bias = (Bias() if biased else None) if isinstance(biased, bool) else biased
    rows, tasks = [], Counter[str]()
    for index in range(scenes):
        scene, rng = scene_at(seed, split, index)
        row = _picture(scene, rng, split, index)
        task = draw_task(rng, mix)
        tasks[task] += 1
        turns = conversation(scene, rng, task, bias)
        row["conversations"] = [
            {"from": speaker, "value": text}
            for turn in turns
            for speaker, text in zip(("human", "gpt"), turn, strict=True)
        ]
        source = "ground truth with a planted bias" if bias else "ground truth"
        row["origin_split"] = json.dumps({"type": task, "model": source})
        rows.append(row)
    _write(path, rows, SFT_SCHEMA)
    return dict(sorted(tasks.items()))


def write_pairs(
    path: str | Path, scenes: int, seed: int, recipe: PairRecipe | None = None, split: str = "pairs"
) -> dict[str, Any]:
    """Write preference pairs in the RLAIF-V schema, labelled by ground truth (their origin_split says so).

    Returns `pair_statistics` and how many scenes were looked at.
    """
    recipe = recipe or PairRecipe()
    about = {"type": "detailed description", "model": "the planted bias", "labeler": "ground truth"}
    rows: list[dict[str, Any]] = []
    judged: list[JudgedPair] = []
    balance = 0
    for index in range(scenes):
        scene, rng = scene_at(seed, split, index)
        picture = _picture(scene, rng, split, index)
        phrasings = draw_phrasings(rng)  # shared by both captions: a pair differs in its claims only
        pairs = choose_pairs(scene, draw_candidates(scene, rng, recipe), rng, recipe, balance)
        for number, pair in enumerate(pairs):
            balance += gap(pair)
            judged.append((scene, pair))
            row = dict(picture, question=DESCRIBE, origin_split=json.dumps(about))
            row["idx"] = f"{picture['idx']}-{number}"
            row["chosen"], row["rejected"] = (caption(claims, phrasings) for claims in pair)
            rows.append(row)
    _write(path, rows, PAIR_SCHEMA)
    return {"scenes": scenes, **pair_statistics(judged)}


def write_heldout(path: str | Path, scenes: int, seed: int, split: str = "heldout") -> None:
    """Write evaluation scenes with the caption question; column `scene` is the ground truth as JSON."""
    rows = []
    for index in range(scenes):
        scene, rng = scene_at(seed, split, index)
        row = _picture(scene, rng, split, index)
        rows.append(dict(row, question=DESCRIBE, scene=scene.to_json()))
    _write(path, rows, HELDOUT_SCHEMA)


def read_heldout(path: str | Path) -> list[HeldOut]:
    """Read what `write_heldout` wrote, in the same order."""
    return [
        HeldOut(
            question=row["question"],
            image=Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"),
            scene=Scene.from_json(row["scene"]),
            idx=row["idx"],
        )
        for row in pq.read_table(path).to_pylist()
    ]


def _picture(scene: Scene, rng: np.random.Generator, split: str, index: int) -> dict[str, Any]:
    """The columns every file has: the rendered image and the names that identify it."""
    path = f"{NAME}/{split}/{index:06d}.png"
    image = {"bytes": encode_png(render(scene, rng)), "path": path}
    return {
        "ds_name": NAME,
        "image": image,
        "image_path": path,
        "idx": f"{split}-{index:06d}",
        "origin_dataset": NAME,
    }


def _write(path: str | Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    rows = [{name: row[name] for name in schema.names} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
