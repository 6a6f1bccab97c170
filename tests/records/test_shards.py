"""Shards: cut by groups, written once, whole or not at all, refused where they belong to something else."""

import json
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaifv_jax.errors import UserError
from rlaifv_jax.records.shards import Shards, finished_files, read_shards
from rlaifv_jax.records.source import Input

SETTINGS = {"stage": "x", "model": "m"}


def write(path: Path, groups: str) -> Path:
    path.write_text("".join(json.dumps({"group": g, "n": n}) + "\n" for n, g in enumerate(groups)))
    return path


def opened(path: Path, size: int) -> Input:
    return Input(str(path), lambda record: record["group"], size)


def lengths(source: Input) -> list[int]:
    return [source.length(shard) for shard in range(source.count)]


def finish(shards: Shards, number: int, *values: Any) -> None:
    shard = shards.begin(number, len(values))
    for unit, value in reversed(list(enumerate(values))):
        shard.add(unit, [{"value": value}])
    shard.finish()


def test_files_are_cut_where_a_group_ends(tmp_path: Path) -> None:
    source = opened(write(tmp_path / "a.jsonl", "aaabbbbcd"), 2)
    assert lengths(source) == [3, 4, 2]
    assert [record["n"] for record in source] == list(range(9))
    assert len(source) == 9
    assert lengths(opened(tmp_path / "a.jsonl", 100)) == [9]


def test_arrays_and_parquet(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", "aabb")
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    (tmp_path / "b.json").write_text(json.dumps(rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    for name in ("a.jsonl", "b.json", "c.parquet"):
        source = opened(tmp_path / name, 1)
        assert source.read(1) == rows[2:]
        assert source.fingerprint == opened(tmp_path / "a.jsonl", 3).fingerprint


def test_a_stage_s_shards_stay_as_they_are(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "out", SETTINGS, {}, 3)
    finish(shards, 0, "a", "b")
    finish(shards, 1)
    finish(shards, 2, "c")
    shards.wait()
    source = Input(str(tmp_path / "out"), lambda record: 0, 1)
    assert lengths(source) == [2, 0, 1]
    assert [record["value"] for record in source] == ["a", "b", "c"]
    assert list(read_shards(tmp_path / "out")) == list(source)
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "00000.jsonl",
        "00001.jsonl",
        "00002.jsonl",
        "manifest.json",
    ]
    before = source.fingerprint
    (tmp_path / "out" / "00002.jsonl").write_text('{"value": "d"}\n')
    assert Input(str(tmp_path / "out"), lambda record: 0, 1).fingerprint != before


def test_what_a_kill_leaves(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "out", SETTINGS, {}, 2)
    shard = shards.begin(0, 3)
    shard.add(2, [{"value": 2}])
    shard._part.close()
    with open(tmp_path / "out" / "parts" / "00000.jsonl", "a") as file:
        file.write('{"index": 7, "records": []}\n{"index": 1, "rec')
    with pytest.raises(UserError, match=r"is not finished: 0 of 2 shards"):
        finished_files(tmp_path / "out")
    again = Shards(tmp_path / "out", SETTINGS, {"libraries": "newer"}, 2)
    assert not again.same_notes
    assert again.left == [0, 1]
    shard = again.begin(0, 3)
    assert shard.done == {2}
    with pytest.raises(UserError, match="2 units are missing"):
        shard.finish()
    shard.add(0, [])
    shard.add(1, [{"value": 1}, {"value": 1.5}])
    shard.finish()
    assert again.left == [1]
    finish(again, 1)
    assert [record["value"] for record in read_shards(tmp_path / "out")] == [1, 1.5, 2]


@pytest.mark.parametrize(
    ("settings", "count", "message"),
    [({"model": "other"}, 2, r"another model \(m; now other\)"), ({}, 3, r"another shards \(2; now 3\)")],
)
def test_other_settings_are_refused(tmp_path: Path, settings: dict[str, str], count: int, message: str) -> None:
    Shards(tmp_path / "out", SETTINGS, {}, 2)
    with pytest.raises(UserError, match=message):
        Shards(tmp_path / "out", SETTINGS | settings, {}, count)


def test_what_becomes_known_later_is_compared_too(tmp_path: Path) -> None:
    Shards(tmp_path / "out", SETTINGS, {}, 1).keep({"weights": "abc"})
    again = Shards(tmp_path / "out", SETTINGS, {}, 1)
    again.keep({"weights": "abc"})
    with pytest.raises(UserError, match=r"another weights \(abc; now def\)"):
        again.keep({"weights": "def"})


def test_places_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("x")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "manifest.json").write_text("[]")
    for place, message in (
        (tmp_path / "file", "cannot be written"),
        (tmp_path / "full", "holds something else"),
        (Path("/proc/nothing"), "cannot be written"),
    ):
        with pytest.raises(UserError, match=message):
            Shards(place, SETTINGS, {}, 1)
    with pytest.raises(UserError, match="is damaged"):
        finished_files(tmp_path / "bad")
    with pytest.raises(UserError, match="there is no"):
        opened(tmp_path / "nothing.jsonl", 1)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(UserError, match="holds no records"):
        opened(tmp_path / "empty.jsonl", 1)


def test_two_runs_on_one_shard(tmp_path: Path) -> None:
    shards = Shards(tmp_path / "out", SETTINGS, {}, 1)
    held = shards.begin(0, 1)
    with pytest.raises(UserError, match="another run is writing it"):
        shards.begin(0, 1)
    held._part.close()


def test_processes_share_the_shards(tmp_path: Path) -> None:
    def work(process: int) -> None:
        shards = Shards(tmp_path / "out", SETTINGS, {}, 5, process, 2)
        shards.keep({"weights": "abc"})
        for number in shards.left:
            finish(shards, number, number)
        shards.wait()

    threads = [threading.Thread(target=work, args=(process,)) for process in (1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert [record["value"] for record in read_shards(tmp_path / "out")] == list(range(5))
    assert not (tmp_path / "out" / "parts").exists()
