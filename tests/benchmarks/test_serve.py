"""The load of benchmarks/serve.py, for a shorter time."""

from pathlib import Path

import pytest

from benchmarks.serve import measure
from rlaifv_jax.shapes.heldout import MODELS
from tests import world


def test_sixteen_clients_for_five_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", world.environment()["XLA_FLAGS"])  # one device
    flags = ["--max-prompt", "256", "--max-new-tokens", "64"]
    found = measure(MODELS / "policy", 16, 5.0, flags, tmp_path / "log")
    assert found["failures"] == 0, found["first failure"]
    assert found["exit status"] == 0
    assert found["requests"] > 16
    assert found["p99/p50"] < 6  # nobody starves
    assert found["MiB after"] < 1.2 * found["MiB before"]
