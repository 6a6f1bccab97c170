"""The picture at the end of the demo."""

from pathlib import Path

from PIL import Image

from rlaifv_jax.shapes import heldout
from rlaifv_jax.shapes.captions import caption
from rlaifv_jax.shapes.examples import choose_examples, draw_examples


def test_errors_of_different_kinds_are_shown_first(tmp_path: Path) -> None:
    examples = heldout.unseen(tmp_path / "heldout.parquet", 8, seed=0)
    said = [caption(example.scene) for example in examples]
    extra = "there is a small green triangle in the {} {} ."
    for k in (2, 5, 6):
        cell = examples[k].scene.empty_cells()[0]
        row, col = ("top", "middle", "bottom")[cell // 3], ("left", "center", "right")[cell % 3]
        said[k] += " " + extra.format(row, col)
    assert choose_examples(examples, said, count=1) == [2]
    assert choose_examples(examples, said, count=3) == [2, 5, 6]
    assert choose_examples(examples, said, count=4) == [0, 2, 5, 6]


def test_drawing(tmp_path: Path) -> None:
    examples = heldout.unseen(tmp_path / "heldout.parquet", 2, seed=0)
    true = [caption(example.scene) for example in examples]
    false = [caption(examples[1 - k].scene) for k in range(2)]
    draw_examples(tmp_path / "true.png", examples, [("before", true), ("after", true)])
    draw_examples(tmp_path / "false.png", examples, [("before", false), ("after", true)])
    red = [
        sum(pixel == (200, 20, 20) for pixel in Image.open(tmp_path / name).convert("RGB").getdata())
        for name in ("true.png", "false.png")
    ]
    assert red[0] == 0
    assert red[1] > 500


def test_table(tmp_path: Path) -> None:
    examples = heldout.unseen(tmp_path / "heldout.parquet", 4, seed=0)
    right = heldout.judge(examples, [caption(example.scene) for example in examples])
    silent = heldout.judge(examples, [""] * 4)
    lines = heldout.table({"right": right, "silent": silent}).splitlines()
    assert lines[3].split()[-4:] == ["100.0", "%", "0.0", "%"]
    assert len(lines) == 5
