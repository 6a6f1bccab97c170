"""A folder in which every name that the pages use lies ready: tiny models under the published ids, pairs, questions."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from eval import commands as eval_commands
from eval import flags as eval_flags
from eval.mmhal import FILE, TYPES
from rlaifv_jax.shapes.ask import write_questions
from rlaifv_jax.shapes.heldout import MODELS
from tests.convert.llamas import TinyLlama
from tests.convert.llavas import TinyLlava
from tests.convert.muffins import TinyMuffin, write_muffin_tokenizer
from tests.eval.test_coco_index import annotations
from tests.fake_server import Server, Tokens, serving
from tests.feedback.chain import make, make_config, read_stage, write_answers
from tests.world import ROOT, command, run_ok, write_pairs

AS = {  # what stands in for whom
    "policy": (
        "liuhaotian/llava-v1.5-7b",
        "openbmb/RLAIF-V-7B",
        "my_llava",
        "ALIGNED",
        "M",
        "models/RLAIF-V-7B",
        "models/exported",
    ),
    "base": ("BASE",),
    "labeler": ("liuhaotian/llava-v1.6-34b",),
}
PAIRS = 16
Run = Callable[..., None]  # module and arguments, in the folder


def reply(prompt: str) -> str:
    """Of whoever divides and judges."""
    return "Rating: 4" if "ating" in prompt else "- there is a large red circle in the top left ."


def weigh(question: str, picture: bytes | None) -> Tokens:
    return [("Yes", -0.1), ("No", -2.5)] if picture else []


@contextmanager
def server() -> Iterator[str]:
    """Address of a server that divides, labels and judges."""
    with serving(Server(reply, weigh)) as running:
        yield running.url


def write(folder: Path, tokenizer: Path) -> Path:
    """Everything but what takes a run: see `write_runs`."""
    folder.mkdir(parents=True)
    for name in ("configs", "benchmarks"):
        (folder / name).symlink_to(ROOT / name)
    for model, names in AS.items():
        for name in names:
            link(folder / name, MODELS / model)
    link(folder / "out/demo/rounds/round_2/train/weights/STEP", MODELS / "policy")
    link(folder / "rlaifv_jax/shapes/models", MODELS)
    link(folder / "rlaifv_jax/shapes/check.txt", MODELS.parent / "check.txt")
    (folder / "key.txt").write_text("key\n")
    TinyLlava(kv_heads=4).write(folder / "liuhaotian" / "tiny")
    link(folder / "openbmb/MiniCPM-Llama3-V-2_5", folder / "liuhaotian" / "tiny")
    for name in ("llama3_split", "llama3_changeq"):
        TinyLlama().write(folder / "models" / name)
    TinyMuffin(vocab=648).write(folder / "MUFFIN_SFT", tokenizer=write_muffin_tokenizer(folder / "muffin", tokenizer))
    write_data(folder)
    write_eval(folder)
    return folder


def link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


def write_data(folder: Path) -> None:
    pairs = write_pairs(folder / "my_pairs.parquet", PAIRS)
    link(folder / "pairs.parquet", pairs)
    for name in ("openbmb/RLAIF-V-Dataset", "PAIRS", "out/feedback/pairs", "out/feedback_llava15/pairs"):
        link(folder / name / "00000.parquet", pairs)
    texts = [json.dumps({"question": "a dog", "chosen": "a red star.", "rejected": "a blue star."})] * PAIRS
    write_pairs(folder / "HaoyeZhang/RLHF-V-Dataset/pairs.parquet", PAIRS, text=texts)
    asked = folder / "asked"
    write_questions(asked, 4, seed=3)
    for name in ("pictures", "questions.jsonl"):
        link(folder / name, asked / name)
    for name in ("held_out.jsonl", "q.jsonl"):
        link(folder / name, asked / "questions.jsonl")
    Image.open(next((asked / "pictures").iterdir())).convert("RGB").save(folder / "photo.jpg")
    (folder / "out/demo/pictures").mkdir(parents=True)
    shutil.copy(next((asked / "pictures").iterdir()), folder / "out/demo/pictures/feedback-000000.png")
    shutil.copy(MODELS.parent / "check.txt", folder / "check.txt")
    write_answers(folder / "chain")
    for file in (folder / "chain").iterdir():
        link(folder / file.name, file)
    annotations(folder / "coco" / "annotations")


def write_eval(folder: Path) -> None:
    """MMHal-Bench with other questions, scenes under the name of Object HalBench."""
    data = folder / "data" / "eval" / "mmhal"
    data.mkdir(parents=True)
    asked = [
        {
            "question_type": TYPES[n],
            "image_id": f"{n}",
            "image_content": ["Dog"],
            "question": f"{n} ?",
            "gt_answer": "A",
        }
        for n in range(8)
    ]
    (data / FILE).write_text(json.dumps(asked))
    answers = [{"question": row["question"], "image_id": row["image_id"], "text": "a dog ."} for row in asked]
    (folder / "answers_mmhal.jsonl").write_text("\n".join(map(json.dumps, answers)))
    for place in ("data/eval", "out/small"):
        evaluate("data", "object_halbench", "--small-world", "4", "--data", str(folder / place))


def evaluate(*arguments: str) -> None:
    given = eval_flags.parse(list(arguments), "doc")
    getattr(eval_commands, given.verb)(given)


def write_runs(folder: Path, url: str) -> None:
    """What other commands would have left: a training run, feedback by three labelers, two scored runs."""
    settings = {"train__steps": 100, "checkpoint__every": 100, "optim__lr": 1e-6}
    run_ok(command("train", MODELS / "policy", folder / "my_pairs.parquet", folder / "out" / "mine", **settings))
    feedback = make(make_config(folder / "chain", MODELS / "labeler"), "divide", "question", "score", "pairs")
    for name in "ABC":
        link(folder / name, feedback)
    claims = {(r["question_id"], r["metainfos"]["metainfos"]["origin_fact"]) for r in read_stage(feedback / "score")}
    labels = [{"question_id": number, "claim": claim, "truth": number % 2 == 0} for number, claim in sorted(claims)]
    (folder / "labels.jsonl").write_text("".join(json.dumps(label) + "\n" for label in labels))
    for stage in ("divide", "question"):
        shutil.copytree(feedback / stage, folder / "out" / "feedback" / stage)
    model = ("--model", str(MODELS / "policy"), "--extractor", "shapes", "--max-new-tokens", "20", "--num-beams", "1")
    evaluate(
        "run", "object_halbench", "--data", str(folder / "out/small"), "--output", str(folder / "out/eval/jax"), *model
    )
    shutil.copytree(folder / "out/eval/jax", folder / "out/eval/torch")
    for run in ("eval/mmhal", "base/mmhal"):
        judge = ("--judge-model", "m", "--judge-server", url, "--data", str(folder / "data" / "eval"))
        answers = str(folder / "answers_mmhal.jsonl")
        evaluate("run", "mmhal", "--answers", answers, "--output", str(folder / "out" / run), *judge)


def copy_of(folder: Path, place: Path) -> Path:
    """The same names at another place; links stay links."""
    return Path(shutil.copytree(folder, place, symlinks=True))


def environment(url: str) -> dict[str, str]:
    """Of a command; on one device, quick to compile."""
    flags = "--xla_backend_optimization_level=0"
    given = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "OPENAI_BASE_URL": url, "OPENAI_API_KEY": "key"}
    return {**os.environ, **given, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
