"""Real processes, real signals: a run that was killed ends as if it had not been."""

import json
import shutil

import numpy as np
import pytest

from convert.orbax_dir import is_complete
from tests import world

STEPS = 9


@pytest.fixture(scope="module")
def setting(tmp_path_factory, tokenizer_dir):
    folder = tmp_path_factory.mktemp("resume")
    model, data = (
        world.write_model(folder / "model", tokenizer_dir),
        world.write_pairs(folder / "pairs.parquet"),
    )
    arguments = {
        "train__steps": STEPS,
        "checkpoint__every": 3,
        "data__eval_fraction": 0.2,
        "precision__compute": "bfloat16",
        "train__accumulate": 2,
        "data__workers": 1,
    }
    world.run_ok(world.command("train", model, data, folder / "whole", **arguments))
    return folder, model, data, arguments


def test_killed_in_mid_run_equals_unbroken_bit_for_bit(setting):
    folder, model, data, arguments = setting
    output = folder / "killed"
    command = world.command("train", model, data, output, **arguments)

    world.kill_when(command, world.at_step(output, 4))
    world.kill_when(command, world.at_step(output, 7))
    newest = max((output / "weights").iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(newest / "params", ignore_errors=True)  # as if the kill had come before the model was written
    said = world.run_ok(command)
    assert is_complete(newest)
    assert "going on from step" in said
    assert (output / "metrics.jsonl").read_bytes() == (folder / "whole" / "metrics.jsonl").read_bytes()
    broken, whole = (world.weights(folder / name, STEPS) for name in ("killed", "whole"))
    assert broken.keys() == whole.keys()
    for path, value in whole.items():
        np.testing.assert_array_equal(broken[path], value, err_msg=path)


def test_killed_adapters_equal_unbroken_bit_for_bit(setting):
    folder, model, data, arguments = setting
    settings = {**arguments, "lora__rank": 4, "lora__dropout": 0.1}
    world.run_ok(world.command("train", model, data, folder / "adapters", **settings))
    command = world.command("train", model, data, folder / "adapters-killed", **settings)
    world.kill_when(command, (folder / "adapters-killed" / "checkpoints" / "3").exists)
    said = world.run_ok(command)
    assert "going on from step" in said
    whole, broken = folder / "adapters", folder / "adapters-killed"
    assert (broken / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    name = f"weights/{STEPS}/adapter_model.safetensors"
    assert (broken / name).read_bytes() == (whole / name).read_bytes()


def test_metrics_hold_every_step_once_and_no_clock(setting):
    folder, *_ = setting
    lines = world.metrics(folder / "whole")
    trained = [line for line in lines if "loss" in line]
    assert [line["step"] for line in trained] == list(range(1, STEPS + 1))
    assert trained[0]["loss"] == pytest.approx(np.log(2), abs=2e-3)
    assert trained[-1]["loss"] < trained[0]["loss"]
    assert [line["step"] for line in lines if "eval_loss" in line] == [3, 6, 9]
    assert {"rewards_train/margins", "logps_train/ref_chosen", "grad_norm", "learning_rate"} <= trained[0].keys()
    assert {"tokens/utilization", "data/skipped_rows"} <= trained[0].keys()
    assert not any("second" in name for line in lines for name in line)
    timing = [json.loads(line) for line in (folder / "whole" / "timing.jsonl").read_text().splitlines()]
    assert {"tokens_per_second", "pairs_per_second", "mfu", "data_wait_per_step"} <= timing[0].keys()
    assert timing[0]["mfu"] is None  # a CPU has no entry in the table of peaks


def test_only_the_newest_states_are_kept_and_all_weights(setting):
    folder, *_ = setting
    states = {path.name for path in (folder / "whole" / "checkpoints").iterdir() if path.name.isdigit()}
    assert states == {"6", "9"}
    assert {path.name for path in (folder / "whole" / "weights").iterdir()} == {"3", "6", "9"}


def test_reference_stage_goes_on_behind_the_last_finished_file(setting):
    folder, model, data, _ = setting
    output = folder / "reference-killed"
    command = world.command("logprobs", model, data, output, reference__shard_rows=4, train__batch_pairs=2)
    shards = output / "reference"
    world.kill_when(command, lambda: len(list(shards.glob("*.parquet"))) >= 1)
    first = {path: path.stat().st_mtime_ns for path in shards.glob("*.parquet")}
    assert 1 <= len(first) < 6
    world.run_ok(command)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in first.items())
    whole = world.command(
        "logprobs", model, data, folder / "reference-whole", reference__shard_rows=4, train__batch_pairs=2
    )
    world.run_ok(whole)

    def contents(directory):
        return [path.read_bytes() for path in sorted(directory.glob("*.parquet"))]

    assert contents(shards) == contents(folder / "reference-whole" / "reference")


def test_a_changed_config_is_refused_unless_allowed(setting):
    folder, model, data, arguments = setting
    changed = world.command("train", model, data, folder / "whole", **{**arguments, "optim__lr": 5e-3})
    refused = world.run(changed)
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert "optim.lr (was 0.001, now 0.005)" in line
    assert "resume.allow_changed" in line
    harmless = {**arguments, "train__log_every": 2, "checkpoint__keep": 3}
    world.run_ok(world.command("train", model, data, folder / "whole", **harmless))
