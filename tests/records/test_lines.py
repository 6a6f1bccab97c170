"""Lines that are added one by one: torn ones on a disk, pieces in the cloud."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rlaifv_jax.errors import UserError
from rlaifv_jax.places import place
from rlaifv_jax.records import lines as growing
from rlaifv_jax.records.answer_file import AnswerFile, is_complete, read_records
from rlaifv_jax.records.lines import files_of, lines
from rlaifv_jax.records.shards import Shards, read_shards
from tests.fake_gcs import Cloud
from tests.world import wait_until

SETTINGS = {"temperature": 0.7}


@pytest.mark.parametrize(
    ("torn", "kept"), [('{"n": 2', '{"n": 1}\n'), ('{"n": 2}', '{"n": 1}\n{"n": 2}\n'), ("", '{"n": 1}\n')]
)
def test_what_a_kill_leaves_on_a_disk(tmp_path: Path, torn: str, kept: str) -> None:
    """A line that is whole but for its end is kept."""
    file = tmp_path / "0.jsonl"
    file.write_text('{"n": 1}\n' + torn)
    opened = lines(file, file)
    opened.write('{"n": 3}')
    opened.close()
    assert file.read_text() == kept + '{"n": 3}\n'


def test_pieces_in_the_cloud(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came in a while is one object; a kill costs what came since; the next run writes behind it."""
    monkeypatch.setattr(growing, "EVERY", 0.2)
    path = place("gs://bucket/lines/0.jsonl")
    first = lines(path, path)
    first.write("1")
    first.write("2")
    assert _soon(lambda: cloud.names("lines/") == ["lines/0.000000.jsonl"])
    assert cloud.read("lines/0.000000.jsonl") == b"1\n2\n"
    monkeypatch.setattr(growing, "EVERY", 1000)
    second = lines(path, path)  # the first one was killed
    second.write("3")
    assert cloud.names("lines/") == ["lines/0.000000.jsonl"]
    second.close()
    assert [str(file) for file in files_of(path)] == [f"gs://bucket/lines/0.00000{n}.jsonl" for n in (0, 1)]
    first.write("4")
    with pytest.raises(UserError, match="another run is writing it"):
        first.close()


def test_a_thread_s_failure_is_told(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "EVERY", 0.1)
    path = place("gs://forbidden/0.jsonl")
    monkeypatch.setattr(growing, "files_of", lambda path: [])
    opened = lines(path, path)
    opened.write("1")
    assert _soon(lambda: opened._failure is not None)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="Forbidden"):
        opened.write("2")


def test_answers_of_two_processes(cloud: Cloud, tmp_path: Path) -> None:
    """The same file as on a disk; of a process that was killed only its answers since the last piece are lost."""
    output = "gs://bucket/two/a.json"
    one, two = (AnswerFile(output, SETTINGS, 4, 1, number, 2) for number in (0, 1))
    one.add(2, [{"n": 2}])
    two.add(3, [{"n": 3}])
    two.close()
    two = AnswerFile(output, SETTINGS, 4, 1, 1, 2)
    assert two.done == {3}
    two.add(1, [{"n": 1}])
    two.close()
    again = AnswerFile(output, SETTINGS, 4, 1, 0, 1)  # by itself; `one` never wrote
    assert again.done == {1, 3}
    with pytest.raises(UserError, match="belongs to a run with another temperature"):
        AnswerFile(output, {"temperature": 0.1}, 4, 1)
    for number in (0, 2):
        again.add(number, [{"n": number}])
    again.finish()
    assert is_complete(output, SETTINGS)
    assert [record["n"] for record in read_records(output)] == [0, 1, 2, 3]
    assert cloud.names("two/") == ["two/a.json", "two/a.json.settings.json"]


def test_shards(cloud: Cloud) -> None:
    shards = Shards("gs://bucket/shards", SETTINGS, {}, 2)
    with shards.begin(0, 2) as shard:
        shard.add(1, [{"n": 1}])
    with shards.begin(0, 2) as shard:
        assert shard.done == {1}
        shard.add(0, [{"n": 0}])
        shard.finish()
    again = Shards("gs://bucket/shards", SETTINGS, {}, 2)
    assert again.left == [1]
    with again.begin(1, 1) as shard:
        shard.add(0, [{"n": 2}])
        shard.finish()
    again.wait()
    assert [record["n"] for record in read_shards("gs://bucket/shards")] == [0, 1, 2]
    assert cloud.names("shards/") == ["shards/00000.jsonl", "shards/00001.jsonl", "shards/manifest.json"]
    cloud.put("full/x", b"")
    with pytest.raises(UserError, match="holds something else"):
        Shards("gs://bucket/full", SETTINGS, {}, 1)


def _soon(holds: Callable[[], bool]) -> bool:
    wait_until(holds, 30)
    return True
