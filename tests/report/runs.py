"""Directories as training, rounds, feedback and evaluations leave them, small."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from configs import base, iterate_base

EVIL = "<script>alert(1)</script> costs $5 & $6"
START = "/models/policy"


def write(file: Path, *records: Any) -> None:
    """JSON lines, or one object where the name ends in .json."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(record) for record in records]
    file.write_text("\n".join(lines) + ("" if file.suffix == ".json" else "\n"))


def training(folder: Path, steps: int = 12, **changes: Any) -> Path:
    """A run with held-out pairs, whose log is torn at its end."""
    metrics: list[Any] = []
    for step in range(1, steps + 1):
        rewards = {"rewards_train/margins": step / 10, "rewards_train/accuracies": min(1.0, 0.5 + step / 50)}
        metrics.append({"step": step, "loss": 0.7 - step / 100, "grad_norm": None if step == 3 else 1.5, **rewards})
        if step % 4 == 0:
            metrics.append({"step": step, "eval_loss": 0.65})
    write(folder / "metrics.jsonl", *metrics)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 13, "lo')
    timing = {"data_wait_per_step": 0.1, "seconds_per_step": 1.0, "tokens_per_second": 900.0, "mfu": None}
    ends = [{"useful_seconds": k * 0.9, "seconds_since_first_start": k * 2.0, "goodput": 0.45} for k in range(1, steps)]
    write(folder / "timing.jsonl", *({"step": k, **timing, **end} for k, end in enumerate(ends, 1)))
    config = base.get_config().to_dict()
    config["optim"]["lr"] = 1e-4
    config["model"]["path"] = EVIL
    write(folder / "config.json", config | changes)
    start = {"devices": {"TPU v5e": 8}, "processes": 2, "cores": 4, "system": "Linux", "versions": {"jax": "9.9"}}
    write(folder / "machines.json", [start | {"step": 0}, start | {"step": 7}])
    write(folder / "bad_rows.jsonl", {"reason": "image_missing"}, {"reason": "image_missing"}, {"reason": "new"})
    return folder


def feedback(
    folder: Path, answers: Mapping[str, list[list[tuple[str, float]]]], pairs: int = 0, data: str = "q"
) -> Path:
    """answers: by model, to questions 0, 1, … of the set `data`, each as claims with P(yes)."""
    asked, scored = [], []
    for model, all_claims in answers.items():
        for place, claims in enumerate(all_claims):
            about = {"ds_question_id": f"{data}{place}", "image_path": f"pictures/{place}.png"}
            number = len(asked)
            text, facts = " ".join(claim for claim, _ in claims), [claim for claim, _ in claims]
            answer = {"question_id": number, "raw_question": f"What is in {place}?", "answer": text, "facts": facts}
            asked.append(answer | about | {"metainfos": about, "model_path": model})
            for claim, chance in claims:
                scores = {"yes": chance, "Yes": 0.0, "no": 1 - chance, "No": 0.0}
                infos = {"origin_fact": claim, **about}
                scored.append({"question_id": number, "raw_question": "so?", "scores": scores, "metainfos": infos})
    write(folder / "question" / "00000.jsonl", *asked)
    write(folder / "score" / "00000.jsonl", *scored)
    write(folder / "score" / "manifest.json", {"model": "labeler", "notes": {"versions": {"jax": "9.8"}}})
    image = io.BytesIO()
    Image.new("RGB", (640, 400), "teal").save(image, "PNG")
    for place in range(len(next(iter(answers.values())))):
        (folder / "pictures").mkdir(exist_ok=True)
        (folder / "pictures" / f"{place}.png").write_bytes(image.getvalue())
    if pairs:
        sides = [record["answer"] for record in asked[:2]]
        scores = {side: {"score": score} for side, score in (("chosen", "0"), ("rejected", "-2"))}
        record = {"question": "What is in 0?", "chosen": sides[0], "rejected": sides[1], "image_path": "pictures/0.png"}
        write(folder / "pairs" / "pairs.jsonl", *[record | {"org_infos": {"scores": scores}}] * pairs)
        counts = {"answers": 9, "pairs over the cap": 1234, "pairs of twice the same text": 0, "pairs": pairs}
        write(folder / "pairs" / "report.json", {"counts": counts, "balance": "by 18%", "mean words, chosen": 4.5})
    return folder


def rounds(folder: Path) -> Path:
    """Two rounds, two checkpoints in each, all of which answer the same three questions."""
    config = iterate_base.get_config().to_dict()
    config["model"]["path"] = EVIL
    accounts = []
    for number in (1, 2):
        measured = {}
        for step in (9, 10):
            doubted = 0.9 if (number, step) == (2, 10) else 0.05
            claims = [[("A dog.", 0.95), (f"A cat {EVIL}.", doubted)], [("A bus.", 0.5)], [("A tree.", 0.9)]]
            path = f"/elsewhere/round_{number}/train/weights/{step}"
            feedback(folder / f"round_{number}" / "measured" / str(step), {path: claims}, data="held-out ")
            rate = 0.5 / number if step == 9 else 0.25 / number
            measured[str(step)] = {"score": 1 - rate, "answers": 100, "answers_with_a_rejected_claim": rate}
        feedback(folder / f"round_{number}", {START: [[("A dog.", 1.0)], [("A cup.", 0.1)]]}, pairs=3)
        training(folder / f"round_{number}" / "train", seed=number)
        accounts.append({"seconds": {"train": 61.5, "measure": 2.0}, "measured": measured, "chosen": 10})
    write(folder / "state.json", {"config": config, "rounds": accounts})
    return folder


def evaluation(folder: Path, value: float) -> Path:
    scores = {"title": "Bench", "metrics": {"Hallucination": value, "Cover": 50.0}, "headline": ["Hallucination"]}
    more = {
        "intervals": {"Hallucination": [value - 2, value + 2]},
        "higher_is_better": {"Hallucination": False},
        "n": 60,
    }
    write(folder / "scores.json", scores | more)
    write(folder / "items.jsonl", {"id": "1"})
    return folder
