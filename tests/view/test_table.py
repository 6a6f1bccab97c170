"""Files as entries: every form, only what is needed is read, pictures stay inside, faults are told."""

import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.errors import UserError
from rlaifv_jax.view import parquet as module
from rlaifv_jax.view.opened import open_set
from rlaifv_jax.view.table import TableSet
from tests.feedback.chain import write_lines
from tests.view.sets import parquet, png, row

MESSAGES = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Yes."}]
FORMS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"question": "Q?", "chosen": "a", "rejected": "b"}, ("Q?", "a", "b")),
    ({"text": json.dumps({"question": "Q?", "chosen": "a", "rejected": "b"})}, ("Q?", "a", "b")),
    ({"prompt": "Q?", "chosen": "a", "rejected": "b"}, ("Q?", "a", "b")),
    (
        {"chosen": MESSAGES, "rejected": [MESSAGES[0], {"role": "assistant", "content": "No."}]},
        ("Hello?", "Yes.", "No."),
    ),
    ({"question": "Q?", "answer": "a"}, ("Q?", "a")),
    ({"messages": MESSAGES}, ("Hello?", "Yes.")),
    ({"conversations": [{"from": "human", "value": "<image>\nQ?"}, {"from": "gpt", "value": "a"}]}, ("Q?", "a")),
]


@pytest.mark.parametrize(("cells", "expected"), FORMS)
def test_every_form_from_parquet_and_json(tmp_path: Path, cells: dict[str, Any], expected: tuple[str, ...]) -> None:
    (tmp_path / "p.png").write_bytes(png(0))
    write_lines(tmp_path / "data.jsonl", [{**cells, "image": "p.png"}])
    (tmp_path / "other").mkdir()
    parquet(tmp_path / "other" / "data.parquet", [{**cells, "image": {"bytes": png(0), "path": None}}])
    for path in (tmp_path / "data.jsonl", tmp_path / "other"):
        of = TableSet(str(path))
        entry = of.entry(0)
        assert (entry.question, *(side.text for side in entry.sides)) == expected
        assert of.picture(0) == png(0)
        assert of.count == 1
        assert [one for one, _ in of.scan()] == [entry]


class Counted(io.RawIOBase):
    """A file that notes what is read."""

    def __init__(self, file: str, read: list[tuple[int, int]]):
        self._file, self._read = open(file, "rb"), read  # noqa: SIM115  # open as long as this object

    def readinto(self, buffer: Any) -> int:
        start = self._file.tell()
        count = self._file.readinto(buffer)
        self._read.append((start, start + count))
        return count

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


def test_opening_reads_the_footer_and_a_row_its_row_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = [random.Random(number).randbytes(20_000) for number in range(60)]
    rows = [row(number, image={"bytes": noise[number], "path": None}) for number in range(60)]
    file = parquet(tmp_path / "data.parquet", rows, group=10)  # 200 kB each
    read: list[tuple[int, int]] = []
    monkeypatch.setattr(module.fsspec, "open", lambda name, mode: Counted(name, read))
    monkeypatch.setattr(module, "BUFFER", 1024)

    of = TableSet(str(file))
    assert sum(end - start for start, end in read) < 90_000  # 64 kB at the end, and the texts of row 0 for the form

    read.clear()
    assert of.entry(34).facts["id"] == "id-34"
    columns = [pq.read_metadata(file).row_group(group).column(0) for group in (3, 4)]
    first, last = (column.dictionary_page_offset or column.data_page_offset for column in columns)
    assert read
    assert all(first <= start and end <= last for start, end in read)
    assert sum(end - start for start, end in read) < 20_000  # without pictures

    read.clear()
    assert [of.entry(number).question for number in (30, 39, 34)]
    assert read == []  # still decoded
    assert of.picture(35) == noise[35]
    assert sum(end - start for start, end in read) < 250_000


def test_rows_in_any_order_are_those_of_the_file(tmp_path: Path) -> None:
    for part in range(3):
        rows = [row(number) for number in range(part * 40, part * 40 + 40)]
        parquet(tmp_path / f"{part}.parquet", rows, group=17)
    of = TableSet(str(tmp_path))
    order = [119, 0, 40, 39, 80, 16, 17, 118, 1, 100]
    assert [of.entry(number).facts["id"] for number in order] == [f"id-{number}" for number in order]
    assert [of.picture(number) for number in order] == [png(number) for number in order]
    assert [entry.facts["id"] for entry, _ in of.scan()] == [f"id-{number}" for number in range(120)]


@pytest.mark.parametrize("name", ["../secret.png", "ABSOLUTE", "link.png", "file:///ABSOLUTE", "http://a.b/c.png"])
def test_pictures_outside_are_not_read(tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(png(1))
    data = tmp_path / "data"
    data.mkdir()
    (data / "link.png").symlink_to(secret)
    path = name.replace("/ABSOLUTE", "ABSOLUTE").replace("ABSOLUTE", str(secret))
    write_lines(data / "data.jsonl", [{**row(0), "image": None, "image_path": path}])
    with pytest.raises(BadRow, match="image_missing"):
        TableSet(str(data / "data.jsonl")).picture(0)
    if not name.startswith(("file", "http")):
        assert TableSet(str(data / "data.jsonl"), str(tmp_path)).picture(0) == png(1)  # --images allows it


def test_claims_and_scores_of_the_stage_of_pairs(tmp_path: Path) -> None:
    infos = {
        "chosen_infos": {"facts": ["a cup"], "changed_facts": ["Is there a cup?"]},
        "rejected_infos": {"facts": ["a dog", "a hat"], "changed_facts": ["Is there a dog?", "Is there a hat?"]},
        "scores": {
            "chosen": {"judge": {"Is there a cup?": "1"}, "score": "0"},
            "rejected": {"judge": {"Is there a dog?": "0", "Is there a hat?": "1"}, "score": "-1"},
        },
    }
    cells = row(0, org_infos=json.dumps(infos), origin_split="{}")
    entry = TableSet(str(parquet(tmp_path / "data.parquet", [cells]))).entry(0)
    assert [[claim.accepted for claim in side.claims] for side in entry.sides] == [[True], [False, True]]
    assert entry.gap == 1
    assert entry.fate is None  # nobody says by which rules


def test_a_bad_row_has_a_note_and_the_others_stay(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "data.jsonl", [row(0, image="x.png"), row(1, image=7, chosen=5), row(2, image=None)])
    file.write_text(file.read_text() + "{broken\n" + json.dumps(row(4, image=None, chosen=" ")) + "\n[1]\n")
    of = TableSet(str(file))
    notes = [entry.note for entry, _ in of.scan()]
    assert notes[0] == notes[2] == ""
    assert notes[1] == "column 'chosen': expected text, found int"
    assert "not valid JSON" in notes[3]
    assert notes[4] == "empty_answer: chosen without text"
    assert "expected a JSON object" in notes[5]
    assert of.entry(1).others["chosen"] == "5"
    with pytest.raises(BadRow, match="expected an image"):
        of.picture(1)


def test_text_that_is_no_unicode_has_a_note(tmp_path: Path) -> None:
    texts = pa.array([b"fine", b"\xff\xfe"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 2, texts.buffers())
    table = pa.table({"question": ["a", "b"], "chosen": broken, "rejected": ["c", "d"]})
    pq.write_table(table, tmp_path / "data.parquet")
    of = TableSet(str(tmp_path / "data.parquet"))
    assert of.entry(0).sides[0].text == "fine"
    assert "row 1 cannot be read" in of.entry(1).note


def made(folder: Path, kind: str) -> str:
    file = folder / "data.parquet"
    if kind == "text":
        file.write_text("no parquet")
    elif kind == "columns":
        pq.write_table(pa.table({"a": [1], "b": ["x"]}), file)
    elif kind == "no rows":
        pq.write_table(pa.table({"question": [], "chosen": [], "rejected": []}), file)
    elif kind == "mixed":
        (folder / "one").mkdir()
        parquet(folder / "one" / "a.parquet", [row(0)])
        parquet(folder / "one" / "b.parquet", [{"question": "q"}])
        return str(folder / "one")
    return str(file)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nothing", "there is no .*data.parquet"),
        ("text", "data.parquet cannot be read as Parquet"),
        ("columns", "columns a, b fit no form of preference data; expected image, question"),
        ("no rows", "has no rows"),
        ("mixed", "b.parquet has other columns .* than .*a.parquet"),
    ],
)
def test_what_cannot_be_shown_is_one_line(tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        open_set(made(tmp_path, kind))
    assert "\n" not in str(raised.value)


def test_hub_names_and_missing_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hf download --repo-type dataset openbmb/RLAIF-V-Dataset"):
        open_set("openbmb/RLAIF-V-Dataset")
    with pytest.raises(UserError, match=r"--images: .* is no folder"):
        open_set(str(parquet(tmp_path / "data.parquet", [row(0)])), str(tmp_path / "none"))
