"""What is said of the files that a benchmark needs."""

import json
from pathlib import Path

import pytest

from eval import data
from eval.sources import SOURCES, Source

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "eval"


def source(**more: object) -> Source:
    return Source("f.jsonl", "questions", "somewhere", "free", **more)  # type: ignore[arg-type]


def test_states(tmp_path: Path) -> None:
    file = tmp_path / "f.jsonl"
    assert data.state_of(source(), tmp_path).word == "missing"
    file.write_bytes(b'{"a": 1}\n{"a": 2}\n')
    assert data.state_of(source(), tmp_path) == data.State("there", "no hash known")
    assert data.state_of(source(rows=2), tmp_path).word == "there"
    assert data.state_of(source(rows=3), tmp_path) == data.State("ALTERED", "2 rows; 3 are published")
    right = "a3fc0bd4b9a5e4d1a0bdc1ccf8bd8cc8d3f0ecbe0d9ec2bb8e7ecd2b7d1cbd4e"
    assert data.state_of(source(sha256=right), tmp_path).word == "ALTERED"
    assert data.state_of(source(git="b" * 40), tmp_path).word == "ALTERED"
    file.write_bytes(b"hello\n")
    git, sha = (
        "ce013625030ba8dba906f756967f9e9ca394464a",
        "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
    )
    assert data.state_of(source(git=git), tmp_path).word == "ok"
    assert data.state_of(source(sha256=sha), tmp_path).word == "ok"
    assert data.state_of(source(rows=1), tmp_path).word == "ALTERED"  # no JSON


def test_pictures_can_be_missing(tmp_path: Path) -> None:
    (tmp_path / "mmhal-bench_answer_template.json").write_text(json.dumps([{}] * 96))
    assert not data.is_whole("mmhal", tmp_path)  # not the published file
    assert data.faults("mmhal", tmp_path) == [
        "mmhal-bench_answer_template.json is not the published file; fetch it again"
    ]


def test_every_benchmark_is_described(tmp_path: Path) -> None:
    from eval.registry import BENCHMARKS

    assert set(SOURCES) == set(BENCHMARKS)
    for name in BENCHMARKS:
        text = data.describe(name, tmp_path)
        assert all(one.name in text and one.licence in text and one.origin in text for one in SOURCES[name])


def test_the_published_files() -> None:
    if not REAL.exists():
        pytest.skip("the published files are not here")
    for name in ("mmhal", "refomb", "llava_bench_coco"):
        assert data.is_whole(name, REAL)
        assert not data.faults(name, REAL)
