"""Corrected captions, and pairs made of them."""

import json

import pyarrow.parquet as pq
import pytest

from rlaifv_jax.data.schema import open_source
from rlaifv_jax.shapes.ablations import rates_table
from rlaifv_jax.shapes.captions import parse
from rlaifv_jax.shapes.corrections import VARIANTS, correct, write_pairs
from rlaifv_jax.shapes.heldout import RATES
from rlaifv_jax.shapes.scene import Scene, Thing, encode_png, render
from rlaifv_jax.shapes.splits import scene_at

STAR = "there is a large red star in the top left ."
CIRCLE = "i see a small blue circle at the middle center ."
SCENE = Scene((Thing("large", "red", "star", "top", "left"), Thing("small", "blue", "circle", "middle", "center")))


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        (f"{STAR} {CIRCLE}", None),
        (f" {STAR}\n{CIRCLE.removesuffix(' .')}", None),
        (f"{STAR.replace('red', 'yellow')} {CIRCLE}", f"{STAR} {CIRCLE}"),
        (f"{STAR} {CIRCLE.replace('small blue', 'large green')}", f"{STAR} {CIRCLE}"),
        (f"{STAR} there is a small green triangle in the top right . {CIRCLE}", f"{STAR} {CIRCLE}"),
        (f"{STAR.replace('red', 'yellow')} {STAR}", STAR),
        (f"{STAR} there is a .", STAR),
        ("there is a small green triangle in the top right .", None),
    ],
)
def test_only_what_is_wrong_is_corrected(caption, expected):
    assert correct(SCENE, caption) == expected


class Captions:
    """What a bench has of a policy."""

    def __init__(self, folder, captions):
        self.folder = folder
        (folder / "pictures").mkdir()
        lines = []
        for place, caption in enumerate(captions):
            name = f"feedback-{place:06d}"
            (folder / "pictures" / f"{name}.png").write_bytes(encode_png(render(*scene_at(0, "feedback", place))))
            lines.append(json.dumps({"ds_question_id": name, "raw_question": "what ?", "answer": caption}))
        (folder / "candidates.jsonl").write_text("\n".join(lines) + "\n")

    def answers(self, model, count):
        return self.folder / "candidates.jsonl"


def test_pairs_are_rows_of_rlhfv(tmp_path):
    bench = Captions(tmp_path, [STAR.replace("red", "yellow"), STAR, f"{STAR} {CIRCLE.replace('blue', 'red')}"])
    file = tmp_path / "pairs" / "pairs.parquet"
    assert write_pairs(bench, [SCENE] * 3, file) == 2
    source = open_source(file)
    assert source.form.name == "RLHF-V"
    for row, rejected in enumerate([STAR.replace("red", "yellow"), f"{STAR} {CIRCLE.replace('blue', 'red')}"]):
        example = source.example(row)
        assert example.image is not None
        assert example.answers[1] == rejected
        assert parse(example.answers[0]).is_true(SCENE)
    assert pq.read_table(file).column_names == ["image", "text", "idx"]


def test_the_first_rows_differ_in_one_thing():
    plain, scaled, dense, *_ = VARIANTS
    assert scaled.beta == plain.beta * dense.token_weight
    assert (dense.beta, dense.average) == (plain.beta, plain.average)
    table = rates_table({plain.name: {rate: [0.5, 0.25] for rate in RATES}}, "trained by")
    assert table.splitlines()[-1] == "| DPO | 37.5 ± 17.7 | 37.5 ± 17.7 | 37.5 ± 17.7 | 0.4 ± 0.2 |"
