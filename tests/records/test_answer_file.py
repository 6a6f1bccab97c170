"""Journals of killed and of several processes."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from rlaifv_jax.errors import UserError
from rlaifv_jax.records.answer_file import AnswerFile, is_complete, read_records

SETTINGS = {"temperature": 0.7}
# Of no question, of too few answers, and of nothing at all.
LEFTOVERS = '{"index": 9, "records": [{}, {}]}\n{"index": 2, "records": [{}]}\n{"index": 0, "records": null}\n'


def fill(file: AnswerFile, *indices: int) -> None:
    for index in indices:
        file.add(index, [{"n": index}, {"n": index + 100}])


def records(output: Path) -> list[int]:
    return [record["n"] for record in read_records(str(output))]


def close(file: AnswerFile) -> None:
    """As a kill does."""
    file._part.close()


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_order_is_that_of_the_questions(tmp_path: Path, name: str) -> None:
    output = tmp_path / name
    file = AnswerFile(str(output), SETTINGS, 3, 2)
    fill(file, 2, 0, 1)
    file.finish()
    assert records(output) == [0, 100, 1, 101, 2, 102]
    assert is_complete(str(output), SETTINGS)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, f"{name}.settings.json"]
    with pytest.raises(UserError, match="another temperature"):
        is_complete(str(output), {"temperature": 0.2})


def test_nothing_asked_is_an_empty_array(tmp_path: Path) -> None:
    AnswerFile(str(tmp_path / "a.json"), SETTINGS, 0, 2).finish()
    assert json.loads((tmp_path / "a.json").read_text()) == []


def test_lines_that_are_none_of_ours(tmp_path: Path) -> None:
    output = str(tmp_path / "a.jsonl")
    file = AnswerFile(output, SETTINGS, 3, 2)
    fill(file, 1)
    close(file)
    with open(tmp_path / "a.jsonl.parts" / "0.jsonl", "a") as journal:
        journal.write("[1]\n{}\nnull\n\n" + LEFTOVERS + '{"index": 2, "rec')
    again = AnswerFile(output, SETTINGS, 3, 2)
    assert again.done == {1}
    fill(again, 0, 2)
    again.finish()
    assert records(tmp_path / "a.jsonl") == [0, 100, 1, 101, 2, 102]


def test_missing_questions_are_noticed(tmp_path: Path) -> None:
    file = AnswerFile(str(tmp_path / "a.jsonl"), SETTINGS, 3, 2)
    fill(file, 0)
    with pytest.raises(UserError, match="2 questions are missing"):
        file.finish()


def finish_together(files: list[AnswerFile]) -> None:
    threads = [threading.Thread(target=file.finish) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)


def test_another_number_of_processes_and_stale_marks(tmp_path: Path) -> None:
    """Two of three processes were done when all were killed; then one does the rest, late."""
    output = tmp_path / "a.jsonl"
    before = [AnswerFile(str(output), SETTINGS, 6, 2, process, 3) for process in range(3)]
    fill(before[0], 0)
    fill(before[1], 1, 4)
    for process in (1, 2):
        (tmp_path / "a.jsonl.parts" / f"{process}.done").touch()
    for file in before:
        close(file)
    first = AnswerFile(str(output), SETTINGS, 6, 2, 0, 2)
    assert first.done == {0, 1, 4}
    fill(first, 2)
    waiting = threading.Thread(target=first.finish)  # finds the mark of process 1 of the run before
    waiting.start()
    waiting.join(timeout=1)
    assert waiting.is_alive()
    second = AnswerFile(str(output), SETTINGS, 6, 2, 1, 2)
    fill(second, 3, 5)
    second.finish()
    waiting.join(timeout=60)
    assert records(output) == [n + more for n in range(6) for more in (0, 100)]


def test_what_becomes_known_later_is_compared_too(tmp_path: Path) -> None:
    output = str(tmp_path / "a.jsonl")
    file = AnswerFile(output, SETTINGS, 1, 2)
    file.keep("weights", {"weights": "abc"})
    close(file)
    again: Any = AnswerFile(output, SETTINGS, 1, 2)
    with pytest.raises(UserError, match=r"another weights \(abc; now xyz\)"):
        again.keep("weights", {"weights": "xyz"})


def test_nobody_else_is_at_work(tmp_path: Path) -> None:
    file = AnswerFile(str(tmp_path / "a.jsonl"), SETTINGS, 1, 2)
    with pytest.raises(UserError, match="another run is writing it"):
        AnswerFile(str(tmp_path / "a.jsonl"), SETTINGS, 1, 2)
    close(file)
    AnswerFile(str(tmp_path / "a.jsonl"), SETTINGS, 1, 2)


def test_settings_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.parts").mkdir()
    (tmp_path / "a.jsonl.parts" / "settings.json").write_text("[]")
    with pytest.raises(UserError, match="is damaged; bring it back, or remove both"):
        AnswerFile(str(tmp_path / "a.jsonl"), SETTINGS, 1, 2)


@pytest.mark.parametrize("name", ["new/", "", "x" * 300])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"is a directory|cannot be written"):
        is_complete(f"{tmp_path}/{name}", SETTINGS)
