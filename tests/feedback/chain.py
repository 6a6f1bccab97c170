"""A small chain of feedback on disk: pictures, questions, answers, and a config that the tests change."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import feedback_base
from rlaifv_jax.feedback.chain import Feedback
from tests import world
from tests.sampling.talker import pictures

SENTENCES = (
    "there is a large red circle in the top left .",
    "i see a small blue star at the middle center .",
    "there is a small green triangle in the bottom right .",
    "there is a large black square in the top right .",
)
COUNT = 6  # questions, each with four answers


def write_answers(folder: Path, count: int = COUNT) -> Path:
    """Answers of one to four sentences, as rlaifv_jax.generate writes them; the pictures lie beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number, picture in enumerate(pictures(count)):
        picture.save(folder / f"{number}.png")
        for sample in range(4):
            said = [SENTENCES[(number + place) % 4] for place in range(1 + (number + sample) % 4)]
            records.append(
                {
                    "question_id": 4 * number + sample,
                    "ds_question_id": f"{number}.png",
                    "raw_question": "describe the image .",
                    "answer": " ".join(said),
                    "metainfos": {"ds_question_id": f"{number}.png", "image_path": f"{number}.png"},
                    "model_path": "policy",
                }
            )
    return write_lines(folder / "answers.jsonl", records)


def write_lines(file: Path, records: Iterable[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def read_lines(*files: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def read_stage(directory: Path) -> list[dict[str, Any]]:
    return read_lines(*sorted(directory.glob("*.jsonl")))


def make_config(folder: Path, labeler: Any = "", **changes: Any) -> ConfigDict:
    """Feedback on `folder`/answers.jsonl by the grammar and a labeler; keyword `a__b=1` sets a.b."""
    config = feedback_base.get_config()
    config.candidates, config.output_dir = str(folder / "answers.jsonl"), str(folder / "out")
    config.shard_answers = 9
    config.divide.function = "rlaifv_jax.shapes.claims:split"
    config.question.function = "rlaifv_jax.shapes.claims:ask"
    config.score.model, config.score.dtype = str(labeler), "float32"
    world.set_keys(config, changes)
    return config


def make(config: ConfigDict, *stages: str) -> Path:
    """Run stages; returns the output directory."""
    for stage in stages:
        getattr(Feedback(config), stage)()
    return Path(config.output_dir)
