"""What models say about scenes, side by side."""

from pathlib import Path

from rlaifv_jax.shapes import heldout
from rlaifv_jax.shapes.captions import caption


def test_table(tmp_path: Path) -> None:
    examples = heldout.unseen(tmp_path / "heldout.parquet", 4, seed=0)
    right = heldout.judge(examples, [caption(example.scene) for example in examples])
    silent = heldout.judge(examples, [""] * 4)
    lines = heldout.table({"right": right, "silent": silent}).splitlines()
    assert lines[3].split()[-4:] == ["100.0", "%", "0.0", "%"]
    assert len(lines) == 5
