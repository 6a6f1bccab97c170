"""Muffin through the commands: DPO, after which what the original leaves alone is as it was; and export."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from configs import llava15
from convert.export import export_model
from convert.load import open_model
from rlaifv_jax.train import train
from tests import world
from tests.convert.muffins import TinyMuffin, write_muffin_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("muffin")
    tokenizer = write_muffin_tokenizer(folder / "tokenizer", tokenizer_dir)
    return TinyMuffin(vocab=648).write(folder / "model", tokenizer=tokenizer)


@pytest.mark.parametrize("vision", [True, False])
def test_dpo(model: Path, tmp_path: Path, vision: bool) -> None:
    config: Any = llava15.get_config()
    config.model.path, config.output_dir = str(model), str(tmp_path / "run")
    config.data.path = str(world.write_pairs(tmp_path / "pairs.parquet", 16))
    config.data.workers, config.precision.compute, config.optim.lr = 0, "float32", 1e-3
    config.train.steps, config.checkpoint.every, config.train.batch_pairs = 6, 6, 8
    config.train.vision, config.mesh.fsdp, config.mesh.tensor = vision, 4, 2
    train(config)
    losses = [line["loss"] for line in world.metrics(tmp_path / "run")]
    assert losses[0] == pytest.approx(np.log(2), abs=1e-5)
    assert losses[-1] < 0.6
    newest = tmp_path / "run" / "weights" / "6"
    export_model(open_model(newest), tmp_path / "exported", "original")
    was, found = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "exported"))
    assert found.keys() == was.keys()
    for name, tensor in found.items():
        of_image = "beit3" in name and (".A" in name or "vision_embed" in name)
        learns = vision and not of_image if "beit3" in name or name == "model.query" else True
        changed = not np.array_equal(tensor, was[name].astype(tensor.dtype))
        if not name.endswith(".bias") and "embed_tokens" not in name:  # some biases get no gradient to speak of
            assert changed == learns, name
    assert json.loads((tmp_path / "exported" / "config.json").read_text())["model_type"] == "beit3_llava"
