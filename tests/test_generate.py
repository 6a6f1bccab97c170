"""`python -m rlaifv_jax.generate`: the original's files in and out, and every way to be interrupted."""

import base64
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rlaifv_jax import generate
from rlaifv_jax.cli import guard
from tests import world

COUNT = 7
WORDS = ("dog", "cat", "tree", "red star", "blue table on the left", "water", "a plate and a dog")


def write_questions(folder: Path, **changes: dict[str, Any]) -> Path:
    """Questions in the original's form; keyword `row_3={…}` changes a row."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(COUNT):
        picture = Image.fromarray(rng.integers(0, 256, (30 + number, 40, 3), dtype=np.uint8))
        picture.save(folder / f"{number}.png")
        row = {
            "ds_question_id": f"{number}.png",
            "image_path": f"{number}.png",
            "question": f"Is there {WORDS[number]}?",
            "metainfos": {"reference": ""},
        }
        rows.append(row | changes.get(f"row_{number}", {}))
    file = folder / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    return world.write_model(tmp_path_factory.mktemp("generate") / "model", tokenizer_dir)


def arguments(model: Path, questions: Path, output: Path, *more: str) -> list[str]:
    given = ["--model", model, "--questions", questions, "--output", output, "--max-new-tokens", 12, "--n", 3]
    return [*map(str, given), *more]


def ask(model: Path, questions: Path, output: Path, *more: str) -> tuple[int, list[dict[str, Any]]]:
    """Status and records."""
    status: list[int] = []
    given = generate.parse_arguments(arguments(model, questions, output, *more))
    refused = guard(lambda: status.append(generate.generate(given)))
    return refused or status[0], [json.loads(line) for line in output.read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """An undisturbed run: its folder and records."""
    folder = tmp_path_factory.mktemp("whole")
    status, records = ask(model, write_questions(folder), folder / "a.jsonl")
    assert status == 0
    return folder, records


def test_records_are_the_original_s(model: Path, whole: tuple[Path, list[dict[str, Any]]]) -> None:
    folder, records = whole
    assert [record["question_id"] for record in records] == list(range(3 * COUNT))
    assert [record["ds_question_id"] for record in records] == [f"{n // 3}.png" for n in range(3 * COUNT)]
    first = records[0]
    expected = ["question_id", "ds_question_id", "raw_question", "answer", "metainfos", "model_path"]
    assert list(first) == expected
    assert first["raw_question"] == "Is there dog?"
    assert first["model_path"] == str(model)
    kept = {"ds_question_id": "0.png", "image_path": "0.png", "metainfos": {"reference": ""}}
    assert first["metainfos"] == kept
    assert len({record["answer"] for record in records}) > 2 * COUNT
    assert not (folder / "a.jsonl.parts").exists()


def test_one_array_base64_given_ids_and_a_part(model: Path, whole: Any, tmp_path: Path) -> None:
    """The same answers from a JSON array with pictures inside, for the rows 2 to 4."""
    folder, _ = whole
    rows = [json.loads(line) for line in (folder / "questions.jsonl").read_text().splitlines()]
    for number, row in enumerate(rows):
        row["image"] = base64.b64encode((folder / f"{number}.png").read_bytes()).decode()
    (tmp_path / "array.jsonl").write_text(json.dumps(rows))
    output = tmp_path / "a.json"
    given = generate.parse_arguments(
        arguments(
            model, tmp_path / "array.jsonl", output, "--start", "2", "--end", "4", "--temperature", "0", "--n", "1"
        )
    )
    assert generate.generate(given) == 0
    found = json.loads(output.read_text())
    assert [record["question_id"] for record in found] == [2, 3]  # as the worked example of the original
    assert "image" not in found[0]["metainfos"]
    _, greedy = ask(model, folder / "questions.jsonl", tmp_path / "g.jsonl", "--temperature", "0", "--n", "1")
    assert [record["answer"] for record in found] == [record["answer"] for record in greedy[2:4]]


def test_bad_rows_become_records_with_an_error(
    model: Path, whole: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = write_questions(
        tmp_path,
        row_1={"image_path": "nowhere.png"},
        row_3={"question": "very " * 3000},
        row_4={"image_path": "text.png"},
        row_5={"question": "\ud800"},
    )
    (tmp_path / "text.png").write_text("no picture")
    status, records = ask(model, questions, tmp_path / "a.jsonl")
    assert status == 0
    errors = {record["ds_question_id"]: record.get("error") for record in records}
    assert errors["1.png"] == f"image_missing: no file 'nowhere.png' below '{tmp_path}'"
    assert "at most 2036 leave room for 12 new tokens" in errors["3.png"]
    assert errors["4.png"] == "image_undecodable: 10 bytes in no known format"
    assert "not_unicode" in errors["5.png"]
    assert [name for name, error in errors.items() if error is None] == ["0.png", "2.png", "6.png"]
    good = [record for record in records if "error" not in record]
    assert good == [record for record in whole[1] if record["ds_question_id"] in ("0.png", "2.png", "6.png")]
    assert all(record["answer"] == "" for record in records if "error" in record)
    said = capsys.readouterr().err
    assert "12 of them are empty and have an error; the first, question_id 3: image_missing" in said
    assert ask(model, questions, tmp_path / "a.jsonl", "--fail-on-errors")[0] == 1  # of a file that is complete


def test_killed_anywhere_ends_the_same(model: Path, whole: Any) -> None:
    folder, _ = whole
    output = folder / "killed.jsonl"
    command = [sys.executable, "-m", "rlaifv_jax.generate"]
    command += arguments(model, folder / "questions.jsonl", output, "--slots", "1")
    journal = folder / "killed.jsonl.parts" / "0.jsonl"

    def lines(count: int) -> Any:
        return lambda: journal.exists() and journal.read_bytes().count(b"\n") >= count

    world.kill_when(command, lines(1))
    with open(journal, "a") as file:
        file.write('{"index": 6, "reco')  # torn
    world.kill_when(command, lines(4))
    assert not output.exists()
    said = world.run_ok(command)
    assert "questions were answered before" in said
    assert output.read_bytes() == (folder / "a.jsonl").read_bytes()
    assert "complete; nothing to do" in world.run_ok(command)


def test_two_processes_write_what_one_writes(model: Path, whole: Any) -> None:
    folder, _ = whole
    output = folder / "two.jsonl"
    command = [sys.executable, "-m", "rlaifv_jax.generate", *arguments(model, folder / "questions.jsonl", output)]
    said = world.run_together(command, 2, devices=2)
    assert output.read_bytes() == (folder / "a.jsonl").read_bytes()
    assert "21 answers to 7 questions" in said[0]
    assert "answers to" not in said[1]


def test_a_later_part_of_the_file_is_asked_alike(model: Path, tmp_path: Path) -> None:
    """Repetitions are numbered through the file, so parts of it fit together."""
    same = {"question": "Is there dog?", "image_path": "0.png", "ds_question_id": "0"}
    questions = write_questions(tmp_path, row_0=same, row_4=same)
    _, every = ask(model, questions, tmp_path / "a.jsonl")
    _, late = ask(model, questions, tmp_path / "b.jsonl", "--start", "3")
    assert late == every[9:]


def test_two_runs_on_one_output(model: Path, whole: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "a.jsonl"
    command = [sys.executable, "-m", "rlaifv_jax.generate", *arguments(model, whole[0] / "questions.jsonl", output)]
    first = subprocess.Popen(command, cwd=world.ROOT, env=world.environment(), stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "a.jsonl.parts" / "0.jsonl").exists():
        assert first.poll() is None
        time.sleep(0.01)
    given = generate.parse_arguments(command[3:])
    assert guard(lambda: generate.generate(given)) == 2
    assert "another run is writing it" in capsys.readouterr().err
    assert first.wait(timeout=300) == 0
    assert output.read_bytes() == (whole[0] / "a.jsonl").read_bytes()


def test_other_settings_are_not_mixed_in(model: Path, whole: Any, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = whole
    given = generate.parse_arguments(
        arguments(model, folder / "questions.jsonl", folder / "a.jsonl", "--temperature", "0.2")
    )
    assert guard(lambda: generate.generate(given)) == 2
    assert "belongs to a run with another temperature (0.7; now 0.2)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--n", "-1"], "--n is -1"),
        (["--top-p", "0"], "top_p is 0.0"),
        (["--temperature", "0"], "3 answers without a temperature or beams would all be the same"),
        (["--num-beams", "2"], "3 answers from 2 beams"),
        (["--start", "7"], "rows 7 to -1 hold nothing to ask"),
        (["--questions", "/nowhere.jsonl"], "/nowhere.jsonl"),
        (["--model", "/nowhere"], "/nowhere is neither a directory nor a hub id"),
        (["--output", "/proc/nothing/a.jsonl"], "/proc/nothing/a.jsonl cannot be written"),
        (["--output", "new/"], "new/ is a directory"),
        (["--temperature", "1e-9"], "it must be 0, or 0.001 or more"),
        (["--questions", "d/nowhere.jsonl"], "there is no d/nowhere.jsonl"),
        (["--template", "chatml"], "llava_v1"),
        (["--tensor", "3"], "tensor is 3, which does not divide the"),
        (["--max-new-tokens", "2048"], "the model was made for 2048 positions"),
        (["--num-beams", "3", "--branches", "2"], "beams always run together"),
    ],
)
def test_a_mistake_is_one_line(
    model: Path, whole: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    given = generate.parse_arguments(arguments(model, whole[0] / "questions.jsonl", tmp_path / "x.jsonl", *more))
    assert guard(lambda: generate.generate(given)) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert message in line


def test_questions_that_are_none(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for row, message in (
        ({"question": 5}, "row 2: has a 'question' of type int"),
        ({"question": None}, "no 'question'"),
    ):
        questions = write_questions(tmp_path / str(len(message)), row_2=row)
        given = generate.parse_arguments(arguments(model, questions, tmp_path / "a.jsonl"))
        assert guard(lambda given=given: generate.generate(given)) == 2
        assert message in capsys.readouterr().err


def test_repeated_questions_get_answers_of_their_own(model: Path, tmp_path: Path) -> None:
    same = {"question": "Is there dog?", "image_path": "0.png", "ds_question_id": "0"}
    questions = write_questions(tmp_path, **{f"row_{n}": same for n in range(COUNT)})
    _, records = ask(model, questions, tmp_path / "a.jsonl")
    assert len({record["answer"] for record in records}) > 2 * COUNT


def test_text_only(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(json.dumps({"question": "What is a dog?", "question_id": "x"}) + "\n")
    _, records = ask(model, file, tmp_path / "a.jsonl")
    assert [record["question_id"] for record in records] == ["x"] * 3
    assert "error" not in records[0]
    assert records[0]["answer"]
