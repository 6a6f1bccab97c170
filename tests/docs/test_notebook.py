"""The notebook: nothing of a run is kept in it, and a small run goes through all of its cells."""

import os
from pathlib import Path

import pytest

from tests.world import ROOT

nbformat = pytest.importorskip("nbformat")
FILE = ROOT / "notebooks" / "small_world.ipynb"


def test_no_outputs_are_kept() -> None:
    notebook = nbformat.read(FILE, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None
            compile(cell.source, FILE.name, "exec")


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    for name, value in {"SCENES": 60, "HELD_OUT": 30, "OUT": tmp_path / "out"}.items():
        monkeypatch.setenv(f"SMALL_WORLD_{name}", str(value))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("XLA_FLAGS", "")
    notebook = nbformat.read(FILE, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": ROOT}}
    )
    client.execute()
    shown = "".join(str(output) for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs)
    assert "round 2" in shown
    assert "image/png" in shown
    assert (tmp_path / "out" / "rounds" / "state.json").exists()
