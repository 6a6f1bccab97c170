"""Damaged files end in one clear line or a counted row: no hang, no crash, nothing written elsewhere, no memory gone.

`make test` tries a few of each kind, `make test-full` 500 in all.
"""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import world
from tests.convert.llavas import TinyLlava
from tests.data import small
from tests.reliability import bombs
from tests.reliability.fuzz import KINDS

FEW, MANY = 8, 63  # of each of the eight kinds
SLOWEST, LARGEST = 20.0, 2**30  # seconds and bytes that a file may cost


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    """A model in two forms, and pairs in two."""
    folder = tmp_path_factory.mktemp("fuzz")
    tiny = TinyLlava(kv_heads=2, vocab=648)
    for name, form in (("model", "safetensors"), ("model-bin", "bin")):
        tiny.write(folder / name, form=form)
        for file in tokenizer_dir.iterdir():
            (folder / name / file.name).write_bytes(file.read_bytes())
    rows = small.good_rows(6)
    small.write(folder / "pairs", rows)
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    pq.write_table(pa.table(columns), folder / "pairs" / "data.parquet")
    return folder


def fuzz(kind: str, first: int, count: int, folder: Path, elsewhere: Path) -> list[str]:
    """What became of the files."""
    elsewhere.mkdir(exist_ok=True)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "imported" not in path.parts}
    arguments = [sys.executable, "-m", "tests.reliability.fuzz", kind, str(first), str(count), str(folder)]
    env = world.environment(PYTHONPATH=str(world.ROOT))
    done = subprocess.run(arguments, cwd=elsewhere, env=env, capture_output=True, text=True, timeout=550, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"{kind} {first + len(told)}: {done.stderr[-2000:]}"
    *files, last = told
    assert [number for number, *_ in files] == list(range(first, first + count))
    assert max(seconds for *_, seconds in files) < SLOWEST
    assert last["grown"] < LARGEST
    assert not list(elsewhere.iterdir())
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "imported" not in path.parts}
    assert {path for path in after if path.is_file()} == {path for path in before if path.is_file()}
    return [found for _, found, _ in files]


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_damaged_files(kind: str, folder: Path, tmp_path: Path) -> None:
    found = fuzz(kind, 0, FEW, folder, tmp_path / "elsewhere")
    assert any(text.startswith(("refused", "left out")) for text in found), found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files(kind: str, folder: Path, tmp_path: Path) -> None:
    found = fuzz(kind, FEW, MANY - FEW, folder, tmp_path / "elsewhere")
    assert len(set(found)) > 1, found


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in bombs.FAST else pytest.mark.slow) for name in bombs.NAMES]
)
def test_small_files_that_would_become_huge(name: str, folder: Path) -> None:
    bombs.make(name, folder)
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.bombs", name, str(folder)],
        cwd=world.ROOT,
        env=world.environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found, seconds, grown = json.loads(done.stdout.splitlines()[-1])
    assert found == "read" if name in bombs.READ else found.startswith(("refused", "left out 1")), found
    assert seconds < 3 * SLOWEST
    assert grown < bombs.LARGEST.get(name, LARGEST)
