"""Every command with all of its paths at gs://…, by real processes over a stand-in: what they write is what they write
on a disk, also when they are killed in between."""

import io
import itertools
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
from etils import epath

from convert.orbax_dir import save_params
from eval.objects.making import make
from rlaifv_jax import generate
from rlaifv_jax.checkpoint import writing
from rlaifv_jax.cli import guard
from rlaifv_jax.errors import UserError
from rlaifv_jax.shapes.ask import write_questions
from rlaifv_jax.shapes.heldout import MODELS
from tests import world
from tests.fake_gcs import Cloud
from tests.feedback.test_command import CONFIG
from tests.test_generate import write_questions as write_seven
from tests.test_iterate import SCENES
from tests.test_iterate import command as iterate

BUCKET = "gs://bucket"
STEPS = {"train__steps": 6, "checkpoint__every": 2, "data__eval_fraction": 0.2}


def put_folder(cloud: Cloud, folder: Path, name: str) -> str:
    """Copy a folder to the cloud; its address."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        cloud.put(f"{name}/{file.relative_to(folder)}", file.read_bytes())
    return f"{BUCKET}/{name}"


def lines(cloud: Cloud, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cloud.read(name).splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path, cloud: Cloud) -> tuple[Path, str]:
    """A folder with a model, pairs and an unbroken run of them on disk; the model's address, pairs beside it."""
    folder = tmp_path_factory.mktemp("gs")
    model, pairs = world.write_model(folder / "model", tokenizer_dir), world.write_pairs(folder / "pairs.parquet")
    cloud.put("given/pairs.parquet", pairs.read_bytes())
    address = f"{BUCKET}/given/model"
    world.run_ok([sys.executable, "-m", "convert", "import", str(model), address])
    world.run_ok(world.command("train", model, pairs, folder / "disk", **STEPS))
    return folder, address


def train(address: str, output: str, **more: Any) -> list[str]:
    return world.command("train", address, f"{BUCKET}/given/pairs.parquet", f"{BUCKET}/{output}", **STEPS, **more)


def step_committed(cloud: Cloud, output: str, step: int) -> Any:
    return lambda: bool(cloud.names(f"{output}/checkpoints/{step}/commit_success.txt"))


def weights(address: str) -> dict[str, np.ndarray]:
    from convert.load import open_model

    return {path: leaf.read(None) for path, leaf in open_model(address).leaves.items()}


def kill_and_finish(cloud: Cloud, start: list[str], output: str, *moments: Callable[[], bool]) -> None:
    for moment in moments:
        world.kill_when(start, moment)
    assert "going on from step" in world.run_ok(start)


def assert_as_on_disk(cloud: Cloud, folder: Path, output: str) -> None:
    assert cloud.read(f"{output}/metrics.jsonl") == (folder / "disk" / "metrics.jsonl").read_bytes()
    here, there = weights(str(folder / "disk" / "weights" / "6")), weights(f"{BUCKET}/{output}/weights/6")
    assert here.keys() == there.keys()
    for path, values in here.items():
        np.testing.assert_array_equal(there[path], values, err_msg=path)


def test_a_run_that_is_killed_in_a_checkpoint_equals_one_on_disk(trained: tuple[Path, str], cloud: Cloud) -> None:
    """Some of the checkpoint is there, and what says that it is whole is not."""
    folder, address = trained
    start = train(address, "killed")
    kill_and_finish(cloud, start, "killed", lambda: bool(cloud.names("killed/checkpoints/4/state/")))
    assert_as_on_disk(cloud, folder, "killed")


@pytest.mark.slow
def test_killed_often(trained: tuple[Path, str], cloud: Cloud) -> None:
    """In the reference stage, in a checkpoint, behind it while the model is written, behind the last."""
    folder, address = trained
    start = train(address, "often", compile_cache="", reference__shard_rows=8)
    moments = ("reference/", "checkpoints/2/meta", "weights/2/params", "checkpoints/6/commit_success.txt")
    kill_and_finish(
        cloud, start, "often", *(lambda moment=moment: bool(cloud.names(f"often/{moment}")) for moment in moments)
    )
    assert_as_on_disk(cloud, folder, "often")
    assert not [name for name in cloud.names("often/") if name.endswith(".part")]


@pytest.mark.slow
def test_a_cloud_that_fails_one_request_in_nine(
    trained: tuple[Path, str], cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = trained
    asked = itertools.count(1)
    monkeypatch.setattr(cloud, "fault", lambda method, path: 503 if next(asked) % 9 == 0 else None)
    world.run_ok(train(address, "flaky"))
    monkeypatch.undo()
    assert_as_on_disk(cloud, folder, "flaky")


@pytest.mark.slow
def test_two_processes_stopped(trained: tuple[Path, str], cloud: Cloud) -> None:
    """SIGTERM to one of two that share nothing but the bucket."""
    _, address = trained
    start = train(address, "two", train__log_every=1)
    job = world.Job(start, 2).wait_for(step_committed(cloud, "two", 2))
    job.processes[1].send_signal(signal.SIGTERM)
    assert [status for status, _ in job.end()] == [0, 0]
    said = world.run_together(start, 2)
    assert "going on from step" in said[0]
    losses = [line["loss"] for line in lines(cloud, "two/metrics.jsonl") if "loss" in line]
    assert len(losses) == 6
    expected = [line["loss"] for line in world.metrics(trained[0] / "disk") if "loss" in line]
    np.testing.assert_allclose(losses, expected, rtol=1e-4)


@pytest.mark.slow
def test_reference_log_probs(trained: tuple[Path, str], cloud: Cloud) -> None:
    folder, address = trained
    data, shards = f"{BUCKET}/given/pairs.parquet", {"reference__shard_rows": 8}
    start = world.command("logprobs", address, data, f"{BUCKET}/logps", **shards)
    world.kill_when(start, lambda: bool(cloud.names("logps/reference/RLAIF-V-Dataset-withlogp_000")))
    world.run_ok(start)
    world.run_ok(world.command("logprobs", folder / "model", folder / "pairs.parquet", folder / "logps", **shards))
    here = {file.name: file for file in (folder / "logps" / "reference").glob("*.parquet")}
    assert cloud.tree("logps/reference/").keys() == here.keys()
    for name, file in here.items():
        there = pq.read_table(io.BytesIO(cloud.read(f"logps/reference/{name}")))
        assert there.equals(pq.read_table(file))


@pytest.mark.slow
def test_answers_in_two_processes_one_of_which_was_killed(
    trained: tuple[Path, str], cloud: Cloud, tmp_path: Path
) -> None:
    folder, address = trained
    questions = put_folder(cloud, write_seven(tmp_path).parent, "asked")
    start = [sys.executable, "-m", "rlaifv_jax.generate", "--max-new-tokens=12", "--n=3"]
    here = [*start, f"--model={folder / 'model'}", f"--questions={tmp_path}/questions.jsonl"]
    world.run_ok([*here, f"--output={tmp_path}/a.jsonl"])
    there = [*start, f"--model={address}", f"--questions={questions}/questions.jsonl"]
    output = f"{BUCKET}/answers/a.jsonl"
    world.kill_when([*there, f"--output={output}"], lambda: bool(cloud.names("answers/a.jsonl.parts/weights.json")))
    world.run_together([*there, f"--output={output}"], 2)
    paths = {f"{BUCKET}/given/model": str(folder / "model")}
    found = [{**record, "model_path": paths[record["model_path"]]} for record in lines(cloud, "answers/a.jsonl")]
    assert found == [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert cloud.names("answers/") == ["answers/a.jsonl", "answers/a.jsonl.settings.json"]


@pytest.mark.slow
def test_the_chain_of_feedback(cloud: Cloud, tmp_path: Path) -> None:
    """Twice, once killed; a third time there is nothing to do."""
    write_questions(tmp_path, 4, seed=3)
    address = put_folder(cloud, tmp_path, "feedback")
    for name, questions in (("disk", str(tmp_path)), ("cloud", address)):
        text = CONFIG.format(policy=str(MODELS / "policy"), questions=f"{questions}/questions.jsonl")
        (tmp_path / f"{name}.py").write_text(text)
    start = [sys.executable, "-m", "rlaifv_jax.feedback", "all"]
    world.run_ok([*start, f"--config={tmp_path}/disk.py", f"--config.output_dir={tmp_path}/out"])
    there = [*start, f"--config={tmp_path}/cloud.py", f"--config.output_dir={BUCKET}/chain"]
    world.kill_when(there, lambda: bool(cloud.names("chain/question/manifest.json")))
    world.run_ok(there)
    here = {str(path.relative_to(tmp_path / "out")): path for path in (tmp_path / "out").rglob("*.jsonl")}
    found = cloud.tree("chain/")
    assert sorted(name for name in found if name.endswith(".jsonl")) == sorted(here)
    for name, path in here.items():
        assert found[name] == path.read_bytes(), name
    tables = [
        pq.read_table(io.BytesIO(found["pairs/00000.parquet"])),
        pq.read_table(tmp_path / "out/pairs/00000.parquet"),
    ]
    assert tables[0].equals(tables[1])
    before = cloud.tree("chain/")
    assert world.run_ok(there).count("complete; nothing to do") == 5
    assert cloud.tree("chain/") == before


@pytest.mark.slow
def test_an_evaluation(cloud: Cloud, tmp_path: Path) -> None:
    make(tmp_path / "data", None, 6, "lexicon")
    given = ["--data", tmp_path / "data", "--model", MODELS / "policy", "--extractor", "shapes", "--num-beams", 1]
    start = [sys.executable, "-m", "eval", "run", "object_halbench", *map(str, given), "--max-new-tokens", "40"]
    world.run_ok([*start, "--output", str(tmp_path / "out")])
    world.run_ok([*start, "--output", f"{BUCKET}/eval"])
    here = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert set(cloud.tree("eval/")) == here
    for name in ("questions.jsonl", "answers.jsonl", "items.jsonl"):
        assert cloud.read(f"eval/{name}") == (tmp_path / "out" / name).read_bytes()
    assert f"{BUCKET}/eval" in world.run([sys.executable, "-m", "eval", "compare", f"{BUCKET}/eval"]).stdout


@pytest.mark.slow
def test_a_round(cloud: Cloud, tmp_path: Path) -> None:
    write_questions(tmp_path, SCENES, seed=5)
    world.run_ok([*iterate(tmp_path, tmp_path), "--config.rounds=1"])
    (tmp_path / "cloud").mkdir()
    start = [*iterate(tmp_path, tmp_path / "cloud"), "--config.rounds=1", f"--config.output_dir={BUCKET}/rounds"]
    world.kill_when(start, lambda: bool(cloud.names("rounds/round_1/train/weights/1/params")))
    world.run_ok(start)
    here = json.loads((tmp_path / "out" / "state.json").read_text())["rounds"]
    there = json.loads(cloud.read("rounds/state.json"))["rounds"]
    assert [account["chosen"] for account in there] == [account["chosen"] for account in here]
    assert cloud.read("rounds/round_1/pairs/pairs.jsonl") == (tmp_path / "out/round_1/pairs/pairs.jsonl").read_bytes()
    assert "nothing is left to do" in world.run_ok(start)


@pytest.mark.slow
def test_a_model_comes_back_as_it_went(trained: tuple[Path, str], tmp_path: Path) -> None:
    folder, address = trained
    convert = [sys.executable, "-m", "convert"]
    export = ["--layout", "llava-hf"]
    world.run_ok([*convert, "export", address, str(tmp_path / "there"), *export])
    world.run_ok([*convert, "export", str(folder / "model"), str(tmp_path / "here"), *export])
    for file in (tmp_path / "here").iterdir():
        assert (tmp_path / "there" / file.name).read_bytes() == file.read_bytes()
    told = [world.run([*convert, "inspect", place]).stdout for place in (address, str(folder / "model"))]
    assert told[0].splitlines()[1:3] == told[1].splitlines()[1:3]


def test_a_bucket_whose_kind_may_not_be_asked(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """Orbax asks Google's client when it replaces what a kill has left of a model."""
    folder = f"{BUCKET}/kind"
    with jax.default_device(jax.devices()[0]):
        save_params(folder, {"a": np.ones((4, 4), np.float32)})
        monkeypatch.setattr(cloud, "fault", lambda method, path: 403 if path.endswith("/b/bucket") else None)
        with pytest.raises(UserError, match="403 GET"), writing(epath.Path(folder)):
            save_params(folder, {"a": np.ones((4, 4), np.float32)})
        monkeypatch.undo()
        save_params(folder, {"a": np.ones((4, 4), np.float32)})


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--output=gs://nowhere/a.jsonl"], 2, "gs://nowhere"),
        (["--output=gs://forbidden/a.jsonl"], 2, "does not have storage.objects"),
        (["--questions=gs://nowhere/q.jsonl"], 2, "gs://nowhere"),
        (["--model=gs://nowhere/model"], 2, "gs://nowhere"),
        (["--model=gs://forbidden/model"], 2, "does not have storage.objects"),
        (["--model=gs://bucket/asked"], 2, "python -m convert import"),
    ],
)
def test_a_mistake_is_one_line(
    cloud: Cloud,
    tmp_path: Path,
    words: list[str],
    status: int,
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    questions = put_folder(cloud, write_seven(tmp_path).parent, "asked")
    given = [
        f"--model={MODELS / 'policy'}",
        f"--questions={questions}/questions.jsonl",
        "--output=gs://bucket/never.jsonl",
    ]
    parsed = generate.parse_arguments([*given, "--max-new-tokens=4", *words])
    assert guard(lambda: generate.generate(parsed)) == status
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(said) == 1
    assert message in said[0]
