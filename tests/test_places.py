"""Paths on a disk and in the cloud, and what is said of a cloud that refuses."""

from pathlib import Path

import pytest

from rlaifv_jax import places
from rlaifv_jax.data.tables import open_table
from rlaifv_jax.errors import Unreachable, UserError
from rlaifv_jax.places import create, entries, fault, local, place, put, reason, remove_tree, scratch, size
from tests.fake_gcs import Cloud
from tests.world import write_pairs


@pytest.mark.parametrize("where", ["disk", "cloud"])
def test_the_same_on_both(cloud: Cloud, tmp_path: Path, where: str) -> None:
    folder = place("gs://bucket/both/a" if where == "cloud" else tmp_path / "a")
    assert entries(folder) == []
    folder.mkdir(parents=True, exist_ok=True)
    written = scratch("test") / "x"
    written.write_bytes(b"12345")
    put(written, folder / "x")
    (folder / "b").mkdir()
    (folder / "b" / "y").write_text("y")
    assert [entry.name for entry in entries(folder)] == ["b", "x"]
    assert size(folder / "x") == 5
    assert not written.exists()
    remove_tree(folder)
    remove_tree(folder)
    assert not folder.exists()


def test_what_others_write_is_seen(cloud: Cloud) -> None:
    """gcsfs would keep what a listing said."""
    folder = place("gs://bucket/others")
    cloud.put("others/1", b"")
    assert len(entries(folder)) == 1
    cloud.put("others/2", b"")
    assert len(entries(folder)) == 2
    assert (folder / "2").exists()
    del cloud.buckets["bucket"]["others/2"]
    assert not (folder / "2").exists()


def test_copies_are_those_of_now(cloud: Cloud, tmp_path: Path) -> None:
    cloud.put("copies/a.jsonl", b"1")
    cloud.put("copies/b.jsonl", b"2")
    files = ["gs://bucket/copies/a.jsonl", "gs://bucket/copies/b.jsonl", str(tmp_path)]
    first = local(files)
    assert [file.read_bytes() for file in first[:2]] == [b"1", b"2"]
    assert first[2] == tmp_path
    asked = cloud.requests["get"]
    assert local(files) == first
    assert cloud.requests["get"] == asked  # the listing tells that nothing has changed
    cloud.put("copies/a.jsonl", b"3")
    assert [file.read_bytes() for file in local(files)[:2]] == [b"3", b"2"]


def test_an_object_is_created_once(cloud: Cloud) -> None:
    """Also where the reply is lost: the request is sent again, and finds what it wrote."""
    target = place("gs://bucket/once")
    assert create(target, b"1")
    assert create(target, b"1")
    assert not create(target, b"2")
    assert cloud.read("once") == b"1"


def test_pairs_that_were_replaced_are_read_anew(
    cloud: Cloud, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`datasets` keeps copies of what it has read, and those that are not replaced are not fetched again."""
    for seed, count in enumerate((3, 5)):
        cloud.put("replaced/pairs.parquet", write_pairs(tmp_path / "pairs.parquet", count, seed).read_bytes())
        table = open_table("gs://bucket/replaced/pairs.parquet")
        assert len(table) == count
        assert table.row(2)["question"] == open_table(tmp_path / "pairs.parquet").row(2)["question"]
    capfd.readouterr()
    assert len(open_table("gs://bucket/replaced/pairs.parquet")) == 5
    assert "Downloading" not in capfd.readouterr().err


def test_a_table_of_many_pages(cloud: Cloud) -> None:
    """A listing comes in pages; pictures lie beside the rows."""
    for number in range(60):
        cloud.put(f"pages/{number:03}.jsonl", f'{{"n": {number}}}\n'.encode())
    table = open_table("gs://bucket/pages")
    assert [table.row(row)["n"] for row in range(len(table))] == list(range(60))
    assert table.folder(3) == "gs://bucket/pages"


def raised(path: str) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011  # whatever it is
        place(path).write_text("x")
    return caught.value


def test_what_is_said_of_a_cloud_that_refuses(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    told = fault(raised("gs://nowhere/x"))
    assert "no such bucket or file" in str(told)
    assert type(told) is UserError
    told = fault(raised("gs://forbidden/500/x"))
    assert "does not have storage.objects" in str(told)
    assert type(told) is UserError
    monkeypatch.setattr("gcsfs.retry.min", lambda *_: 0.0, raising=False)  # the pauses between its six tries
    monkeypatch.setattr(cloud, "fault", lambda method, path: 503)
    assert type(fault(raised("gs://bucket/x"))) is Unreachable
    assert fault(ValueError("x")) is None
    assert fault(OSError("503")) is None
    assert reason(OSError(2, "No such thing", "x")) == "No such thing"
    assert type(places.refused("x", ValueError("y"), "z")) is UserError
