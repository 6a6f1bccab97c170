"""Pictures of scenes and a file that asks about them: what a person would bring to rlaifv_jax.feedback."""

import json
from pathlib import Path

from rlaifv_jax.shapes.questions import DESCRIBE
from rlaifv_jax.shapes.scene import Scene, encode_png, render
from rlaifv_jax.shapes.splits import scene_at


def write_questions(folder: Path, scenes: int, seed: int, split: str = "feedback") -> list[Scene]:
    """Write `folder`/questions.jsonl and the pictures it names; returns the scenes, which the files do not tell."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    shown, lines = [], []
    for index in range(scenes):
        scene, rng = scene_at(seed, split, index)
        name = f"{split}-{index:06d}"
        (pictures / f"{name}.png").write_bytes(encode_png(render(scene, rng)))
        shown.append(scene)
        lines.append(json.dumps({"ds_question_id": name, "image_path": f"pictures/{name}.png", "question": DESCRIBE}))
    (folder / "questions.jsonl").write_text("\n".join(lines) + "\n")
    return shown
