"""A host needs room for the model and little more."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SLACK = 400 * 10**6  # the promise is 1.5 GB beyond model and largest tensor


@pytest.mark.slow
def test_streaming_keeps_memory_flat(tmp_path: Path) -> None:
    program = [sys.executable, "tests/convert/measure_memory.py", str(tmp_path / "model")]
    environment = {"PYTHONPATH": ".", "JAX_PLATFORMS": "cpu", "PATH": ""}
    done = subprocess.run(program, capture_output=True, text=True, check=True, env=environment)
    figures = json.loads(done.stdout.splitlines()[-1])
    model, room = figures["model"], figures["largest"] + SLACK
    assert model > 600 * 10**6
    assert figures["load"] < model + room, figures
    assert figures["load_orbax"] < model + room, figures
    assert figures["load_float32"] < 2 * model + figures["largest"] + room, figures
    assert figures["import"] < room + 512 * 2**20, figures
    assert figures["save"] < room + 256 * 10**6, figures
    assert figures["export"] < room, figures
