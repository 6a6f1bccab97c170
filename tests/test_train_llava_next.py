"""LLaVA-NeXT through the commands: DPO and adapters on pictures of several tiles; chat and export of what comes out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import LlavaNextForConditionalGeneration

from configs import llava15, llava15_lora
from convert.export import export_model
from convert.load import open_model
from rlaifv_jax.chat import Chat
from rlaifv_jax.train import train
from tests import world
from tests.convert.llava_nexts import TinyLlavaNext
from tests.data.chatml_tokenizer import write_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("next")
    return TinyLlavaNext(vocab=640).write(folder / "model", tokenizer=write_tokenizer(folder / "tokenizer"))


def run(model: Path, folder: Path, config: Any, **changes: Any) -> Path:
    """Six steps; returns the output directory."""
    config.model.path, config.output_dir = str(model), str(folder / "run")
    config.data.path = str(world.write_pairs(folder / "pairs.parquet", 16))
    config.data.workers, config.precision.compute, config.optim.lr = 0, "float32", 1e-3
    config.train.steps, config.checkpoint.every, config.train.batch_pairs = 6, 6, 8
    world.set_keys(config, changes)
    train(config)
    return folder / "run"


@pytest.mark.parametrize("projector", [True, False])
def test_dpo_trains_the_newline_with_the_projector(model: Path, tmp_path: Path, projector: bool) -> None:
    out = run(model, tmp_path, llava15.get_config(), train__projector=projector)
    losses = [line["loss"] for line in world.metrics(out)]
    assert losses[0] == pytest.approx(np.log(2), abs=1e-5)
    assert losses[-1] < 0.6
    before, after = open_model(model).leaves, world.weights(out, 6)
    for path in ("projector/newline", "projector/first/kernel"):
        was = before[path].read(None).astype(after[path].dtype)
        assert np.array_equal(after[path], was) != projector, path


def test_what_comes_out_goes_on(model: Path, tmp_path: Path) -> None:
    """Chat with a checkpoint and with adapters, and the way to transformers."""
    newest = run(model, tmp_path / "all", llava15.get_config()) / "weights" / "6"
    assert open_model(newest).template == "chatml_direct"
    shown = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 100, 3), dtype=np.uint8))
    assert isinstance(Chat(newest).chat(shown, "what ?", max_new_tokens=4), str)
    export_model(open_model(newest), tmp_path / "theirs", "llava-hf")
    _, info = LlavaNextForConditionalGeneration.from_pretrained(tmp_path / "theirs", output_loading_info=True)
    assert not any(info.values()), info
    lora = llava15_lora.get_config()
    adapters = run(model, tmp_path / "lora", lora, lora__rank=4) / "weights" / "6"
    newline = open_model(adapters).leaves["projector/newline"].read(None)
    assert not np.array_equal(newline, open_model(model).leaves["projector/newline"].read(None))
    assert isinstance(Chat(adapters).chat(shown, "what ?", max_new_tokens=4), str)
