"""The program for one big accelerator runs from end to end where there is none."""

import json
import sys

import pytest

from benchmarks import gpu_step

SMALL = {
    "layers": 2,
    "width": 32,
    "mlp-width": 64,
    "heads": 2,
    "vocab": 101,
    "image-size": 56,
    "tower-layers": 2,
    "tower-width": 32,
    "tower-mlp-width": 64,
    "tower-heads": 2,
    "rounds": 1,
    "pairs": 2,
}


@pytest.mark.parametrize(
    ("contender", "extra"),
    [
        ("ours", {}),
        ("original", {}),
        ("completion_only", {}),
        ("ours", {"lora": 4, "base": "int8"}),
        ("completion_only", {"lora": 4}),
    ],
)
def test_it_writes_its_result(contender, extra, tmp_path, monkeypatch, capsys):
    file = tmp_path / "result.json"
    options = SMALL | {"contender": contender, "photos": tmp_path, "json": file} | extra
    monkeypatch.setattr(sys, "argv", ["gpu_step", *(f"--{key}={value}" for key, value in options.items())])
    gpu_step.main()
    result = json.loads(file.read_text())
    assert json.loads(capsys.readouterr().out) == result
    assert result["contender"] == contender
    assert result["step_s"] > 0
    assert result["mfu"] is None  # a CPU has no peak in the table
    assert result["sizes"]["layers"] == 2
    # 2 pairs of about 225 tokens through 18 k weights, forward and backward
    assert 5e-5 < result["model_tflops"] < 2e-4
    if contender == "ours":
        assert result["memory"]["temporary_bytes"] > 0
