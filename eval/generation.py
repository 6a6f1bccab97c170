"""Answers for a benchmark, by this project's engine or by transformers, into a file that either can be scored from."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.benchmark import Item
from rlaifv_jax.cli import say
from rlaifv_jax.errors import UserError
from rlaifv_jax.records.settings import PATIENCE, wait_for, write_whole

ENGINES = ("jax", "transformers")


@dataclass(frozen=True)
class Generation:
    """The original's for evaluation: three beams, nothing drawn, up to 1,024 tokens. append: text behind every
    question. repetition_penalty and those from vision_path on: as `rlaifv_jax.generate` takes them."""

    model: str
    engine: str = "jax"
    num_beams: int = 3
    temperature: float = 0.0
    repetition_penalty: float = 1.0
    max_new_tokens: int = 1024
    append: str = ""
    vision_path: str = ""
    template: str = ""
    image_aspect_ratio: str = ""
    dtype: str = ""
    tensor: int = 0
    slots: int = 0
    seed: int = 0


def answer(items: Sequence[Item], data: Path, output: Path, how: Generation, *, first: bool = True) -> Path:
    """Write OUTPUT/questions.jsonl and OUTPUT/answers.jsonl; what is finished there already is not asked again.

    first: of the processes that answer together; each must call this.

    Raises:
      UserError: pictures are missing, or the model cannot answer.
    """
    folder = data if data.is_dir() else data.parent
    if missing := [item.image_id or item.id for item in items if not item.image]:
        raise UserError(
            f"{len(missing)} of {len(items)} pictures are not in {folder}/images, the first of them {missing[0]}; "
            "see python -m eval data for where they are from"
        )
    questions, answers = output / "questions.jsonl", output / "answers.jsonl"
    asked = "".join(
        json.dumps({"ds_question_id": item.id, "question": f"{item.question}{how.append}", "image": item.image}) + "\n"
        for item in items
    )
    if questions.exists() and questions.read_text() != asked:
        raise UserError(f"{output} holds answers to other questions; choose another --output, or remove it")
    if first:
        write_whole(questions, [asked])
        say(f"{len(items)} questions, answered by {how.model}")
    wait_for(questions.exists, questions, PATIENCE)
    if how.engine == "transformers":
        from eval.torch_engine import generate

        if first:  # PyTorch knows of no others
            generate(how, questions, answers, folder)
    else:
        _by_jax(how, questions, answers, folder)
    return answers


def _by_jax(how: Generation, questions: Path, answers: Path, folder: Path) -> None:
    from rlaifv_jax import generate

    options: dict[str, Any] = {
        **{name: value for name, value in asdict(how).items() if name not in ("engine", "append")},
        "questions": questions,
        "output": answers,
        "image_folder": folder,
    }
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items() if value or name == "temperature"]
    generate.generate(generate.parse_arguments([*given, "--n=1"]))
