"""`python -m rlaifv_jax.feedback`: the whole chain, kills at any time, several processes, mistakes."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rlaifv_jax.data.schema import open_source
from rlaifv_jax.shapes.ask import write_questions
from rlaifv_jax.shapes.heldout import MODELS
from tests import world
from tests.convert.llamas import TinyLlama
from tests.feedback.chain import read_lines, read_stage, write_answers

SCENES = 8
CONFIG = """
from configs import iterate_shapes

def get_config():
    config = iterate_shapes.get_config().feedback
    config.policy.model, config.policy.n, config.policy.max_new_tokens = {policy!r}, 4, 40
    config.questions, config.shard_answers = {questions!r}, 8
    return config
"""


def command(folder: Path, output: Path, stage: str = "all", *more: str) -> list[str]:
    given = ["-m", "rlaifv_jax.feedback", stage, f"--config={folder}/config.py", f"--config.output_dir={output}"]
    return [sys.executable, *given, *more]


def contents(directory: Path) -> dict[str, bytes]:
    """All results under a directory, without what may differ: manifests' notes and settings with paths."""
    files = sorted(file for file in directory.rglob("*") if file.suffix in (".jsonl", ".parquet") and file.is_file())
    return {str(file.relative_to(directory)): file.read_bytes() for file in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with questions, a config, and what an undisturbed run makes of them in out/."""
    folder = tmp_path_factory.mktemp("whole")
    write_questions(folder, SCENES, seed=3)
    (folder / "config.py").write_text(
        CONFIG.format(policy=str(MODELS / "policy"), questions=str(folder / "questions.jsonl"))
    )
    world.run_ok(command(folder, folder / "out"))
    return folder


@pytest.fixture(scope="module")
def chosen(whole: Path) -> Path:
    """The same folder, with the best of the answers in best/."""
    world.run_ok(command(whole, whole / "best", "best_of_n", *best_of(whole)))
    return whole


def best_of(folder: Path) -> list[str]:
    """The shipped base stands in for a model that the policy was trained from."""
    models = {"policy": MODELS / "policy", "reference": MODELS / "base"}
    given = [f"--config.best_of_n.{name}={model}" for name, model in models.items()]
    return [f"--config.candidates={folder}/out/candidates.jsonl", *given]


def test_the_chain_ends_in_pairs_that_train(whole: Path) -> None:
    out = whole / "out"
    assert [len(list((out / stage).glob("*.jsonl"))) for stage in ("divide", "question", "score")] == [4, 4, 4]
    table = pq.read_table(out / "pairs" / "00000.parquet")
    row = table.slice(0, 1).to_pylist()[0]
    origin, infos = json.loads(row["origin_split"]), json.loads(row["org_infos"])
    assert origin["model"] == str(MODELS / "policy")
    assert origin["labeler"] == str(MODELS / "labeler")
    scores = infos["scores"]
    assert int(scores["chosen"]["score"]) > int(scores["rejected"]["score"])
    assert set(scores["chosen"]["judge"].values()) <= {"0", "1"}
    assert row["image"]["bytes"] == (whole / row["image_path"]).read_bytes()
    assert len(row["chosen"].split()) == len(row["rejected"].split())  # balanced
    lines = read_lines(out / "pairs" / "pairs.jsonl")
    assert [line["chosen"] for line in lines] == table["chosen"].to_pylist()
    source = open_source(str(out / "pairs"))
    assert source.form.name == "RLAIF-V"
    assert source.example(0).answers == (row["chosen"], row["rejected"])
    report = json.loads((out / "pairs" / "report.json").read_text())
    assert report["counts"]["pairs"] == len(table)


def test_again_is_nothing_to_do(whole: Path) -> None:
    before = contents(whole / "out")
    said = world.run_ok(command(whole, whole / "out"))
    assert said.count("complete; nothing to do") == 5
    assert contents(whole / "out") == before


def test_all_from_the_input_of_a_stage(whole: Path, tmp_path: Path) -> None:
    """Nothing is asked, although there are questions."""
    world.run_ok(command(whole, tmp_path / "out", "all", f"--config.divide.input={whole}/out/candidates.jsonl"))
    expected = contents(whole / "out")
    assert contents(tmp_path / "out") == {k: v for k, v in expected.items() if k != "candidates.jsonl"}


def test_one_stage_at_a_time_and_from_answers(whole: Path, tmp_path: Path) -> None:
    given = f"--config.candidates={whole}/out/candidates.jsonl"
    for stage in ("divide", "question", "score", "pairs"):
        world.run_ok(command(whole, tmp_path / "out", stage, given))
    expected = contents(whole / "out")
    assert contents(tmp_path / "out") == {k: v for k, v in expected.items() if k != "candidates.jsonl"}


def kill_at_random(arguments: Sequence[str], directory: Path, after: float) -> bool:
    """Start a command, and kill it `after` seconds after it has begun to write; False where it was done before."""
    process = subprocess.Popen(arguments, cwd=world.ROOT, env=world.environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not directory.exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(after)
    done = process.poll() is not None
    process.kill()
    process.wait(timeout=60)
    return not done


KILLS = (2, pytest.param(10, marks=pytest.mark.slow))


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("stage", ["divide", "question", "score", "pairs"])
def test_killed_at_random_ends_the_same(whole: Path, tmp_path: Path, stage: str, kills: int) -> None:
    """Every stage alone, on the finished stages before it."""
    inputs = {
        "divide": [f"--config.candidates={whole}/out/candidates.jsonl"],
        "question": [f"--config.question.input={whole}/out/divide"],
        "score": [f"--config.score.input={whole}/out/question"],
        "pairs": [f"--config.pairs.answers={whole}/out/question", f"--config.pairs.feedback={whole}/out/score"],
    }
    arguments = command(whole, tmp_path / "out", stage, *inputs[stage])
    chance = random.Random(f"{stage} {kills}")
    for _ in range(kills):
        kill_at_random(arguments, tmp_path / "out" / stage, chance.choice([0, 0.01, 0.1, 0.5, 2]) * chance.random())
    world.run_ok(arguments)
    expected = {k: v for k, v in contents(whole / "out").items() if k.startswith(f"{stage}/")}
    assert contents(tmp_path / "out") == expected
    assert not (tmp_path / "out" / stage / "parts").exists()


@pytest.mark.parametrize("kills", KILLS)
def test_the_best_of_several_killed_at_random(chosen: Path, tmp_path: Path, kills: int) -> None:
    arguments = command(chosen, tmp_path / "best", "best_of_n", *best_of(chosen))
    chance = random.Random(kills)
    killed = [kill_at_random(arguments, tmp_path / "best", 3 * chance.random()) for _ in range(kills)]
    world.run_ok(arguments)
    assert any(killed)
    found = contents(tmp_path / "best")
    assert found == contents(chosen / "best")
    assert {name.split("/")[1] for name in found} == {"policy", "reference", "best"}


@pytest.mark.parametrize("kills", KILLS)
def test_a_language_model_that_is_killed(tmp_path: Path, kills: int) -> None:
    """Claims and questions drawn at a temperature come out the same, too."""
    write_answers(tmp_path)
    llama = str(TinyLlama().write(tmp_path / "llama"))
    (tmp_path / "config.py").write_text(
        "from configs import feedback_base\n\ndef get_config():\n    config = feedback_base.get_config()\n"
        f"    config.candidates, config.shard_answers = {str(tmp_path / 'answers.jsonl')!r}, 8\n"
        f"    config.divide.model = config.question.model = {llama!r}\n"
        "    for section in (config.divide, config.question):\n"
        "        section.update({'temperature': 1.0, 'max_new_tokens': 60, 'slots': 2})\n"
        "    return config\n"
    )
    for stage in ("divide", "question"):
        world.run_ok(command(tmp_path, tmp_path / "straight", stage))
        arguments = command(tmp_path, tmp_path / "killed", stage)
        chance = random.Random(kills)
        killed = [kill_at_random(arguments, tmp_path / "killed" / stage, 6 * chance.random()) for _ in range(kills)]
        world.run_ok(arguments)
        assert contents(tmp_path / "killed" / stage) == contents(tmp_path / "straight" / stage)
        assert any(killed)


def test_two_processes_write_what_one_writes(whole: Path, tmp_path: Path) -> None:
    said = world.run_together(command(whole, tmp_path / "out"), 2, devices=2)
    assert contents(tmp_path / "out") == contents(whole / "out")
    assert "pairs;" in said[0]
    assert "pairs;" not in said[1]


def test_nobody_waits_for_a_process_that_has_failed(whole: Path, tmp_path: Path) -> None:
    inputs = [f"--config.pairs.answers={whole}/out/question", f"--config.pairs.feedback={whole}/out/score"]
    started = time.monotonic()
    (first, said), (second, _) = world.end_together(
        command(whole, tmp_path / "out", "pairs", *inputs, "--config.pairs.difference=1000"), 2
    )
    assert first == 2
    assert "error: pairs: not one pair is left" in said
    assert second != 0
    assert time.monotonic() - started < 60


# ------------------------------------------------------------------------------------------------- mistakes

INPUTS = ["--config.pairs.answers=QUESTION", "--config.pairs.feedback=SCORE"]
ELSEWHERE = ["--config.output_dir=NEW", "--config.score.input=QUESTION"]


@pytest.mark.parametrize(
    ("stage", "more", "message"),
    [
        ("", [], "which stage? Say one of divide, question, score, pairs, all, best_of_n"),
        ("divides", [], "which stage?"),
        ("all", ["more"], "what is 'more'?"),
        ("all", ["--questions=/nowhere.jsonl"], "there is no /nowhere.jsonl"),
        ("all", ["--config.policy.model=", "--config.output_dir=NEW"], "policy.model is not set"),
        ("all", ["--config.candidate=x"], "candidate"),
        ("divide", ["--config.questions=", "--config.output_dir=NEW"], "candidates is not set"),
        ("score", ["--config.output_dir=NEW"], "run the stage 'question' first"),
        ("score", ["--config.score.model=/nowhere", "--config.score.input=QUESTION"], "another model"),
        ("score", ["--config.score.model=LLAMA", *ELSEWHERE], "has to see the picture"),
        ("score", ["--config.score.row_length=7"], "score.row_length is 7; it must lie between 64"),
        ("score", ["--config.score.prompt=/nowhere.txt"], "prompt: /nowhere.txt cannot be read"),
        ("score", ["--config.score.template=chatml", *ELSEWHERE], "llava"),
        ("pairs", ["--config.pairs.balance=three_sided"], "pairs.balance is 'three_sided'"),
        ("pairs", ["--config.pairs.cap=1"], "another rules"),
        ("pairs", ["--config.pairs.shard_rows=0"], "pairs.shard_rows is 0"),
        ("all", ["--config.shard_answers=0"], "shard_answers is 0"),
        ("best_of_n", [], "have to be set"),
        # before anything is asked
        ("all", ["--config.pairs.balance=three_sided", "--config.output_dir=NEW"], "pairs.balance is 'three_sided'"),
        ("all", ["--config.question.function=", "--config.output_dir=NEW"], "question.model is not set"),
        ("pairs", [*INPUTS, "--config.output_dir=FULL"], "holds something else"),
    ],
)
def test_a_mistake_is_one_line(
    whole: Path, tmp_path: Path, llama: str, stage: str, more: list[str], message: str
) -> None:
    known = {
        "NEW": str(tmp_path / "new"),
        "QUESTION": str(whole / "out" / "question"),
        "SCORE": str(whole / "out" / "score"),
        "FULL": str(tmp_path / "full"),
        "CANDIDATES": str(whole / "out" / "candidates.jsonl"),
        "LLAMA": llama,
    }
    for word, place in known.items():
        more = [part.replace(word, place) for part in more]
    mine = tmp_path / "full" / "pairs" / "mine.parquet"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    before = contents(whole / "out")
    arguments = [word for word in command(whole, whole / "out", stage, *more) if word]
    done = world.run(arguments)
    assert done.returncode == 2, done.stderr[-2000:]
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert contents(whole / "out") == before
    assert not (tmp_path / "new" / "candidates.jsonl").exists()
    assert mine.read_text() == "mine"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(TinyLlama().write(tmp_path_factory.mktemp("llama")))


def test_help_teaches() -> None:
    done = world.run([sys.executable, "-m", "rlaifv_jax.feedback", "--help"])
    assert done.returncode == 0
    for word in ("python -m rlaifv_jax.feedback all", "config.pairs.cap = 2", "best_of_n", "divide.pieces = 300"):
        assert word in done.stdout


def test_an_unfinished_stage_is_not_read(whole: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(whole / "out" / "question", tmp_path / "question")
    (tmp_path / "question" / "00002.jsonl").unlink()
    done = world.run(command(whole, tmp_path / "out", "score", f"--config.score.input={tmp_path}/question"))
    assert done.returncode == 2
    assert "is not finished: 3 of 4 shards" in done.stderr


def test_the_original_s_files_go_in(whole: Path, tmp_path: Path) -> None:
    """Answers with claims as one JSON array, feedback as another, as the original's scripts leave them."""
    for stage, name in (("question", "gq.jsonl"), ("score", "check.jsonl")):
        (tmp_path / name).write_text(json.dumps(read_stage(whole / "out" / stage)))
    given = [f"--config.pairs.answers={tmp_path}/gq.jsonl", f"--config.pairs.feedback={tmp_path}/check.jsonl"]
    world.run_ok(command(whole, tmp_path / "out", "pairs", *given))
    assert contents(tmp_path / "out")["pairs/pairs.jsonl"] == contents(whole / "out")["pairs/pairs.jsonl"]
