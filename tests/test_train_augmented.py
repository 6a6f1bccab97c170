"""Augmented training: reference log-probs belong to the pixels of training, unless every step has its own views."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs import llava15
from rlaifv_jax.errors import UserError
from rlaifv_jax.train import train
from tests import world
from tests.convert.minicpms import TinyMiniCpm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    return world.write_model(tmp_path_factory.mktemp("augmented") / "model", tokenizer_dir)


def run(model: Path, folder: Path, **changes: Any) -> list[float]:
    """The losses of four steps in which nothing is learnt yet to speak of; a part of the pairs is held out."""
    config = llava15.get_config()
    config.model.path, config.output_dir = str(model), str(folder / "run")
    config.data.path = str(world.write_pairs(folder / "pairs.parquet", 12))
    config.data.workers, config.precision.compute, config.optim.lr = 0, "float32", 1e-12
    config.train.steps, config.checkpoint.every, config.train.batch_pairs = 4, 4, 4
    config.data.augment, config.data.eval_fraction = "muffin", 0.2
    world.set_keys(config, changes)
    train(config)
    return [line["loss"] for line in world.metrics(folder / "run") if "loss" in line]


def test_reference_and_policy_see_the_same_view(model: Path, tmp_path: Path) -> None:
    assert run(model, tmp_path) == pytest.approx([np.log(2)] * 4, abs=1e-5)
    # What it has computed is not for plain pictures, nor for other views; fresh views are compared with it.
    known = {"reference__path": str(tmp_path / "run" / "reference")}
    for changes in ({"data__augment": ""}, {"seed": 1}):
        with pytest.raises(UserError, match="image preprocessing"):
            run(model, tmp_path / "other", **known, **changes)
    assert run(model, tmp_path / "fresh", data__augment_views="fresh", **known) != pytest.approx([np.log(2)] * 4)


def test_fresh_views_are_others_than_the_reference_saw(model: Path, tmp_path: Path) -> None:
    losses = run(model, tmp_path, data__augment_views="fresh")
    assert all(abs(loss - np.log(2)) > 1e-4 for loss in losses)
    assert losses == run(model, tmp_path / "again", data__augment_views="fresh")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__augment": "", "data__augment_views": "fresh"}, "there are no views"),
        ({"data__augment": "randaugment"}, "data.augment is 'randaugment'; it can be '' or 'muffin'"),
        ({"data__image_aspect_ratio": "pad"}, "leave data.image_aspect_ratio empty"),
    ],
)
def test_settings_that_say_nothing(model: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(model, tmp_path, **changes)


def test_a_model_that_sees_no_squares(tmp_path: Path) -> None:
    slices = TinyMiniCpm().write(tmp_path / "model")
    with pytest.raises(UserError, match=r"data\.augment makes a square of every picture, which minicpm cannot see"):
        run(slices, tmp_path)
