"""The parquet files: schema, content, determinism, balance."""

import io
import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from rlaifv_jax.shapes.captions import count_words, parse
from rlaifv_jax.shapes.datasets import read_heldout, write_heldout, write_pairs, write_sft
from rlaifv_jax.shapes.measure import measure
from rlaifv_jax.shapes.questions import DESCRIBE, truth
from rlaifv_jax.shapes.scene import Scene
from rlaifv_jax.shapes.splits import scene_at
from rlaifv_jax.shapes.tasks import BASE_MIX, LABELER_MIX, POLICY_MIX


def test_same_arguments_same_bytes(tmp_path: Path):
    writers = {
        "sft": lambda path, seed: write_sft(path, 40, seed, POLICY_MIX, biased=True, split="policy"),
        "pairs": lambda path, seed: write_pairs(path, 40, seed),
        "heldout": lambda path, seed: write_heldout(path, 40, seed),
    }
    for name, write in writers.items():
        for copy, seed in (("a", 0), ("b", 0), ("c", 1)):
            write(tmp_path / f"{name}_{copy}.parquet", seed)
        first, second, other = ((tmp_path / f"{name}_{copy}.parquet").read_bytes() for copy in "abc")
        assert first == second != other


def test_sft_rows_are_true_conversations(tmp_path: Path):
    counts = write_sft(tmp_path / "sft.parquet", 300, 0, BASE_MIX)
    assert abs(counts["caption"] / 300 - 0.4) < 0.1
    rows = pq.read_table(tmp_path / "sft.parquet").to_pylist()
    answers = []
    for index, row in enumerate(rows):
        scene, _ = scene_at(0, "base", index)
        turns = row["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
        task = json.loads(row["origin_split"])["type"]
        assert len(turns) // 2 in {"caption": (1,), "yes_no": range(3, 7), "what": (5,)}[task]
        for question, answer in zip(turns[::2], turns[1::2], strict=True):
            if task == "caption":
                assert question["value"] == DESCRIBE
                assert parse(answer["value"]).claims == scene.things
            else:
                assert truth(scene, question["value"]) == answer["value"]
            if task == "yes_no":
                answers.append(answer["value"] == "yes")
    assert 0.35 < np.mean(answers) < 0.5


def test_the_bias_touches_captions_only(tmp_path: Path):
    write_sft(tmp_path / "sft.parquet", 200, 0, LABELER_MIX | {"caption": 1.0}, biased=True)
    scenes, captions = [], []
    for index, row in enumerate(pq.read_table(tmp_path / "sft.parquet").to_pylist()):
        scene, _ = scene_at(0, "base", index)
        turns = [turn["value"] for turn in row["conversations"]]
        if turns[0] == DESCRIBE:
            scenes.append(scene)
            captions.append(turns[1])
        else:
            assert all(truth(scene, q) == a for q, a in zip(turns[::2], turns[1::2], strict=True))
    assert measure(scenes, captions).response_hallucination > 0.3


@pytest.mark.parametrize("mix", [{}, {"caption": 0.0}, {"caption": -1.0, "what": 2.0}, {"poetry": 1.0}])
def test_a_bad_mix_is_refused(tmp_path: Path, mix: dict[str, float]):
    with pytest.raises(ValueError, match="a mix needs"):
        write_sft(tmp_path / "sft.parquet", 1, 0, mix)


def test_pairs_open_with_datasets_in_the_rlaifv_schema(tmp_path: Path):
    path = tmp_path / "pairs.parquet"
    write_pairs(path, 30, 0)
    data = datasets.Dataset.from_parquet(str(path), cache_dir=str(tmp_path / "cache"))
    assert data.column_names == (
        [
            "ds_name",
            "image",
            "question",
            "chosen",
            "rejected",
            "origin_dataset",
            "origin_split",
            "idx",
            "image_path",
        ]
    )
    assert len(set(data["idx"])) == len(data)
    for row in data:
        assert Image.open(io.BytesIO(row["image"]["bytes"])).size == (48, 48)
        assert json.loads(row["origin_split"])["labeler"] == "ground truth"


def test_pairs_prefer_the_truth_and_balance_length(tmp_path: Path):
    path = tmp_path / "pairs.parquet"
    statistics = write_pairs(path, 300, 0)
    rows = pq.read_table(path).to_pylist()
    scenes = [scene_at(0, "pairs", int(row["idx"].split("-")[1]))[0] for row in rows]
    chosen, rejected = (measure(scenes, [row[side] for row in rows]) for side in ("chosen", "rejected"))
    for scene, row in zip(scenes, rows, strict=True):
        good, bad = parse(row["chosen"]).claims, parse(row["rejected"]).claims
        assert sum(c not in scene for c in good) < sum(c not in scene for c in bad)
        assert {c for c in bad if c in scene} <= set(good)
    assert statistics["pairs"] == len(rows) >= 250
    assert chosen.mention_hallucination < 0.06 < 0.2 < rejected.mention_hallucination
    assert chosen.recall > rejected.recall
    gaps = [count_words(row["chosen"]) - count_words(row["rejected"]) for row in rows]
    assert np.mean(gaps) == pytest.approx(statistics["mean_gap"])
    assert -0.5 <= np.mean(gaps) <= 0
    assert statistics["equal"] > 0.6
    assert statistics["chosen_shorter"] > 0.1 < statistics["chosen_longer"]
    assert {"color", "extra", "shape", "size"} <= set(statistics["punished"])
    assert all(statistics["punished"][kind] > 0.2 * len(rows) for kind in ("color", "extra"))


def test_heldout_round_trip(tmp_path: Path):
    write_heldout(tmp_path / "small.parquet", 20, 3)
    small = read_heldout(tmp_path / "small.parquet")
    assert [e.scene for e in small] == [scene_at(3, "heldout", k)[0] for k in range(20)]
    assert {(e.image.size, e.image.mode, e.question) for e in small} == {((48, 48), "RGB", DESCRIBE)}
    assert isinstance(small[0].scene, Scene)
    assert len({e.idx for e in small}) == 20
