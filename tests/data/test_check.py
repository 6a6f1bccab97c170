"""`python -m rlaifv_jax.data check`: the same verdicts as a run's, without one."""

import json
from pathlib import Path

import pytest

from rlaifv_jax.data.__main__ import check, parse_arguments
from rlaifv_jax.errors import UserError
from tests import world


def run(*arguments: object) -> int:
    return check(parse_arguments(["check", *map(str, arguments)]))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    return world.write_model(tmp_path_factory.mktemp("model") / "llava", tokenizer_dir)


def test_good_pairs(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = world.write_pairs(tmp_path / "pairs.parquet", 5)
    assert run(pairs) == 0
    assert capsys.readouterr().out == f"{pairs}: the form of RLAIF-V, 5 rows, 5 can be used\n"
    assert run(pairs, "--model", model) == 0
    assert "llava: " in capsys.readouterr().out


def test_bad_rows_are_counted_and_listed(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = {"bytes": b"no picture", "path": None}
    pairs = world.write_pairs(tmp_path / "pairs.parquet", 3)
    good = world.pq.read_table(pairs)["image"].to_pylist()
    pairs = world.write_pairs(tmp_path / "pairs.parquet", 3, image=[good[0], broken, good[2]], rejected=["a", "b", ""])
    assert run(pairs, "--list", tmp_path / "bad.jsonl") == 1
    assert "1 × image_undecodable, first row 1 (id 101)" in capsys.readouterr().out
    assert run(pairs, "--model", model, "--list", tmp_path / "bad.jsonl") == 1
    assert "1 × empty_answer, first row 2" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(row["row"], row["reason"]) for row in rows] == [(1, "image_undecodable"), (2, "empty_answer")]


def test_an_answer_that_is_cut_is_told(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = world.write_pairs(tmp_path / "pairs.parquet", 3, chosen=["dog " * 400] * 3)
    assert run(pairs, "--model", model, "--max-length", 200) == 0
    assert "3 rows with an answer cut at 200" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--template", "llava_v1"], "are of a model"),
        (["--workers", -1], "must be 0 or more"),
        (["--list", "/nowhere/bad"], "--list: /nowhere/bad cannot be written"),
        (["--objective", "sft"], ""),
    ],
)
def test_mistakes(tmp_path: Path, more: list[object], message: str) -> None:
    pairs = world.write_pairs(tmp_path / "pairs.parquet", 2)
    if not message:  # pairs can be fine-tuned on, too
        assert run(pairs, *more) == 0
        return
    with pytest.raises(UserError, match=message):
        run(pairs, *more)


def test_nothing_that_can_be_used(tmp_path: Path) -> None:
    pairs = world.write_pairs(tmp_path / "p.parquet", 2, image=[{"bytes": b"x", "path": None}] * 2)
    with pytest.raises(UserError, match="none of its 2 rows can be used"):
        run(pairs)
