"""The tiny model before training, and what stands in for CLIP's pretraining."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from convert.load import open_model
from convert.orbax_dir import save_params
from rlaifv_jax.models.blueprint import flat
from rlaifv_jax.shapes.scene import Scene, Thing
from rlaifv_jax.shapes.start import random_weights, write_directory
from rlaifv_jax.shapes.tower import cell_labels, teach_to_see


def test_the_start_is_a_model_like_any_other(tmp_path: Path) -> None:
    plan = write_directory(tmp_path)
    save_params(tmp_path, random_weights(plan.shapes, seed=0))
    config = open_model(tmp_path).config
    assert config.tile == ((48, 48, 3), 9)
    assert config.vision.used_layers == config.vision.layers - 1  # as in LLaVA-1.5
    assert sum(leaf.size for leaf in flat(plan.shapes).values()) < 600_000


def test_random_weights_are_reproducible_and_scaled() -> None:
    shapes = {"decoder": {"head": {"kernel": jnp.zeros((64, 500))}, "norm": {"scale": jnp.zeros(8)}}}
    first, second = (random_weights(shapes, seed=1) for _ in range(2))
    kernel = np.asarray(first["decoder"]["head"]["kernel"])
    assert np.array_equal(kernel, second["decoder"]["head"]["kernel"])
    assert kernel.std() == pytest.approx(1 / 8, rel=0.05)
    assert np.all(np.asarray(first["decoder"]["norm"]["scale"]) == 1)


def test_cell_labels() -> None:
    labels = cell_labels(Scene((Thing("large", "red", "star", "middle", "right"),)))
    assert labels[5].tolist() == [2, 1, 4]
    assert labels.sum() == 7


def test_the_tower_learns(tmp_path: Path) -> None:
    plan = write_directory(tmp_path)
    before = random_weights(plan.shapes, seed=0)
    after, accuracy = teach_to_see(plan, before, seed=0, steps=60, batch=16)
    assert accuracy > 0.65  # 61 % of the cells are empty
    assert after["decoder"] is before["decoder"]
    assert set(flat(after)) == set(flat(before))
