"""Two real processes of four devices each, joined by jax.distributed, against one process of eight."""

import numpy as np
import pytest

from tests import world


@pytest.mark.parametrize("adapters", [{}, {"lora__rank": 4, "lora__base": "int8"}], ids=["whole", "adapters"])
def test_two_processes_train_as_one(tmp_path, tokenizer_dir, adapters):
    model, data = (
        world.write_model(tmp_path / "model", tokenizer_dir),
        world.write_pairs(tmp_path / "pairs.parquet"),
    )
    settings = {
        "train__batch_pairs": 8,
        "train__steps": 4,
        "data__eval_fraction": 0.2,
        "mesh__data": 2,
        "mesh__fsdp": 4,
        **adapters,
    }
    world.run_ok(world.command("train", model, data, tmp_path / "one", **settings), devices=8)

    said = world.run_together(world.command("train", model, data, tmp_path / "two", **settings), 2, devices=4)
    assert "data:" not in said[1]  # one process speaks
    assert "trained" not in said[1]

    one, two = world.metrics(tmp_path / "one"), world.metrics(tmp_path / "two")
    assert [line["step"] for line in one] == [line["step"] for line in two]
    for a, b in zip(one, two, strict=True):
        for name in a:
            if name == "rewards_train/accuracies" and a["step"] <= 2:
                continue  # policy and reference are still equal: rounding decides a tie
            np.testing.assert_allclose(b[name], a[name], atol=1e-5, rtol=1e-4, err_msg=name)
    first, second = (world.weights(tmp_path / name, 4) for name in ("one", "two"))
    for path, value in first.items():
        difference = np.abs(value.astype(np.float32) - second[path].astype(np.float32))
        assert difference.mean() < 1e-5, path
