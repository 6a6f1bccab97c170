"""Sets for the tests of the viewer: files of every form, and a feedback directory with pairs of the real stage."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from starlette.testclient import TestClient

from configs import feedback_base
from rlaifv_jax.feedback.chain import Feedback
from rlaifv_jax.view.app import create_app
from rlaifv_jax.view.entry import Set
from tests.feedback.chain import write_lines
from tests.feedback.feeds import Record, answer, verdicts


def png(seed: int, size: tuple[int, int] = (9, 7)) -> bytes:
    stream = io.BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    return stream.getvalue()


def row(number: int, **changes: Any) -> dict[str, Any]:
    """Of the form of RLAIF-V."""
    return {
        "image": {"bytes": png(number), "path": f"{number}.png"},
        "question": f"What is in picture {number}?",
        "chosen": f"A red cup number {number}.",
        "rejected": f"A blue cup number {number} on two tables.",
        "origin_dataset": "kitchen",
        "origin_split": json.dumps({"model": "policy", "scores": [0, -(number % 4)]}),
        "idx": f"id-{number}",
        **changes,
    }


def parquet(file: Path, rows: list[dict[str, Any]], group: int = 1000) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=group)
    return file


def client(of: Set, **options: Any) -> TestClient:
    return TestClient(create_app(of), base_url="http://localhost", **options)


def feedback(folder: Path, *, pairs: bool = True, **changes: Any) -> Path:
    """Twelve pictures with four answers each; such that every rule leaves something out."""
    answers: list[Record] = []
    heard: list[Record] = []
    for picture in range(12):
        for sample in range(4):
            number = 4 * picture + sample
            claims = [f"claim {place} of {number}" for place in range(3)]
            if picture == 5 and sample == 1:
                claims[1] = claims[0]  # said twice
            text = " ".join(["word"] * (4 + (sample * picture) % 9)) + f" {number if picture != 3 else ''}"
            record = answer(number, claims, text=text, group=f"p{picture}", question=f"What is in {picture}?")
            answers.append(record)
            rejected = 2 if number == 15 else (sample + picture) % 3  # 15 says the same as 12
            found = verdicts(record, [place >= rejected for place in range(3)])
            for one, claim in zip(found, claims, strict=True):
                one["metainfos"]["metainfos"]["origin_fact"] = claim
            if number == 30:
                found[2] = {**found[2], "error": "server: refused"}
            heard.extend(found)
        (folder / f"p{picture}.png").write_bytes(png(picture))
    for stage, records in (("question", answers), ("score", heard)):
        directory = folder / "out" / stage
        directory.mkdir(parents=True)
        for shard, numbers in enumerate((range(20), range(20, 48))):
            kept = [record for record in records if record["question_id"] in numbers]
            write_lines(directory / f"{shard:05}.jsonl", kept)
        (directory / "manifest.json").write_text(json.dumps({"stage": stage, "shards": 2}))
    if pairs:
        config = feedback_base.get_config()
        config.output_dir, config.image_folder = str(folder / "out"), str(folder)
        config.pairs.balance, config.pairs.tolerance, config.pairs.cap = "two_sided", 0.02, 1
        config.pairs.update(changes)
        Feedback(config).pairs()
    return folder / "out"
