"""Whole runs in this process, over the eight virtual devices."""

import json
import logging
import re
import shutil

import jax
import numpy as np
import pytest

from configs import llava15
from rlaifv_jax.errors import UserError
from rlaifv_jax.train import train
from tests import world
from tests.convert.llavas import TinyLlava


@pytest.fixture(scope="module")
def paths(tmp_path_factory, tokenizer_dir):
    folder = tmp_path_factory.mktemp("train")
    return folder, world.write_model(folder / "model", tokenizer_dir), world.write_pairs(folder / "pairs.parquet", 19)


def config(paths, output, **changes):
    folder, model, data = paths
    values = llava15.get_config()
    values.model.path, values.data.path, values.output_dir = str(model), str(data), str(folder / output)
    values.data.workers, values.precision.compute, values.optim.lr = 0, "float32", 1e-3
    values.train.steps, values.checkpoint.every = 4, 4
    values.update_from_flattened_dict({key.replace("__", "."): value for key, value in changes.items()})
    return values


def test_the_step_is_compiled_once(paths, caplog):
    with caplog.at_level(logging.WARNING), jax.log_compiles():
        train(config(paths, "once"))
    compiled = [record.getMessage() for record in caplog.records if "Compiling" in record.getMessage()]
    assert sum("train_step" in message for message in compiled) == 1
    assert sum("logprob_step" in message for message in compiled) == 1


def test_sft_from_preference_pairs(paths):
    train(config(paths, "sft", train__objective="sft", train__steps=6))
    lines = world.metrics(paths[0] / "sft")
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert not (paths[0] / "sft" / "reference").exists()


def test_dpo_without_a_reference(paths):
    train(config(paths, "free", dpo__reference_free=True, train__steps=4))
    first, *_, last = world.metrics(paths[0] / "free")
    assert first["logps_train/ref_chosen"] == 0
    assert last["loss"] < first["loss"]
    assert not (paths[0] / "free" / "reference").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dpo__loss": "hinge"}, "dpo.loss is 'hinge'; it can be 'sigmoid' or 'ipo'"),
        ({"dpo__label_smoothing": 0.5}, "dpo.label_smoothing is 0.5; it must lie in 0 … 0.5, below 0.5"),
        ({"dpo__loss": "ipo", "dpo__label_smoothing": 0.1}, "dpo.label_smoothing is of the sigmoid loss"),
    ],
)
def test_losses_that_are_none(paths, changes, message):
    with pytest.raises(UserError, match=re.escape(message)):
        train(config(paths, "none", **changes))


def test_training_goes_on_from_its_own_weights(paths):
    """A directory under weights/ is a model like any other, and its own reference."""
    train(config(paths, "first"))
    again = config(paths, "second", model__path=str(paths[0] / "first" / "weights" / "4"), train__steps=1)
    train(again)
    assert world.metrics(paths[0] / "second")[0]["loss"] == pytest.approx(np.log(2), abs=1e-5)


def test_held_out_file_with_its_own_reference(paths):
    held_out = world.write_pairs(paths[0] / "held.parquet", 5, seed=3)
    train(config(paths, "held", data__eval_path=str(held_out), train__eval_every=2))
    evaluations = [line for line in world.metrics(paths[0] / "held") if "eval_loss" in line]
    assert [line["step"] for line in evaluations] == [2, 4]
    assert evaluations[0]["eval_loss"] != evaluations[1]["eval_loss"]
    assert list((paths[0] / "held" / "reference_eval").glob("*.parquet"))


def test_bad_rows_are_counted(paths, capsys):
    answers = ["", "Has <image> in it.", *["Fine."] * 14]
    data = world.write_pairs(paths[0] / "bad.parquet", 16, chosen=answers)
    held_out = world.write_pairs(paths[0] / "bad-held.parquet", 4, rejected=["Fine.", " ", "Fine.", "Fine."])
    train(config(paths, "bad", data__path=str(data), data__eval_path=str(held_out), train__steps=1))
    said = capsys.readouterr().err
    assert "14 of 16 rows" in said
    assert "row 0 (id 100): empty_answer" in said
    assert world.metrics(paths[0] / "bad")[0]["data/skipped_rows"] == 2
    listed = [json.loads(line) for line in (paths[0] / "bad" / "bad_rows.jsonl").read_text().splitlines()]
    assert [(row["row"], row["reason"]) for row in listed[:2]] == [(0, "empty_answer"), (1, "image_tag_in_text")]
    assert [(row["path"], row["row"]) for row in listed[2:]] == [(str(held_out), 1)]


def test_resolved_config_is_stored(paths):
    train(config(paths, "stored", train__steps=1))
    stored = json.loads((paths[0] / "stored" / "config.json").read_text())
    assert stored["train"]["steps"] == 1
    assert stored["dpo"]["beta"] == 0.1


def test_a_relative_output_dir_will_do(paths, monkeypatch):
    monkeypatch.chdir(paths[0])
    train(config(paths, "unused", output_dir="relative/run", train__steps=1))
    assert (paths[0] / "relative" / "run" / "weights" / "1" / "params").is_dir()


@pytest.mark.parametrize("objective", ["dpo", "sft"])
def test_changed_data_is_refused_on_resume(paths, objective):
    data = world.write_pairs(paths[0] / f"changing-{objective}.parquet", 12)
    values = config(paths, f"changing-{objective}", data__path=str(data), train__objective=objective, train__steps=1)
    train(values)
    world.write_pairs(data, 12, seed=9)
    with pytest.raises(UserError, match="holds a run on other data"):
        train(values)


def test_a_run_knows_the_model_it_began_with(paths, tokenizer_dir):
    folder = paths[0] / "model-of-run"
    world.write_model(folder, tokenizer_dir)
    values = config(paths, "model-changed", model__path=str(folder), train__steps=1)
    train(values)
    world.write_model(folder, tokenizer_dir, seed=5)
    for file in (paths[0] / "model-changed" / "reference").iterdir():
        file.unlink()
    with pytest.raises(UserError, match="is not the model that the run in"):
        train(values)


def test_the_clock_stands_still_during_a_pause(paths):
    """With lines every third step, a checkpoint in between must not shorten the time of the steps."""
    train(config(paths, "slow", train__steps=6, train__log_every=3, checkpoint__every=2))
    timing = [json.loads(line) for line in (paths[0] / "slow" / "timing.jsonl").read_text().splitlines()]
    assert [line["step"] for line in timing] == [3, 6]
    assert all(0 < line["data_wait_per_step"] <= line["seconds_per_step"] for line in timing)


def test_numbers_that_are_none_stop_the_run_before_anything_is_saved(paths, tokenizer_dir):
    folder = paths[0] / "broken"
    broken = TinyLlava(kv_heads=2, vocab=640)
    broken.tensors["model.language_model.norm.weight"][3] = float("nan")
    broken.write(folder, tokenizer=tokenizer_dir)
    values = config(paths, "nan", model__path=str(folder), train__objective="sft")
    with pytest.raises(UserError, match="step 1: loss nan"):
        train(values)
    assert not (paths[0] / "nan" / "weights").exists()


def test_steps_that_cannot_be_used_are_skipped_until_there_are_too_many(paths, tokenizer_dir, capsys):
    values = config(paths, "skips", model__path=str(paths[0] / "broken"), train__objective="sft")
    values.guard.nonfinite, values.guard.nonfinite_steps = "skip", 3
    with pytest.raises(UserError, match=r"step 3: loss nan, gradient norm nan, the last of 3 such steps in a row"):
        train(values)
    assert capsys.readouterr().err.count("skipped, the parameters stay as they were") == 2
    lines = world.metrics(paths[0] / "skips")
    assert [(line["loss"], line["skipped_steps"]) for line in lines] == [(None, 1), (None, 2)]
    assert [line["learning_rate"] for line in lines] == [0, 0]  # of updates, of which there was none


def test_steps_on_request_are_traced(paths):
    train(config(paths, "traced", profile__steps="2:3"))
    (trace,) = (paths[0] / "traced" / "profile").glob("plugins/profile/*/*.xplane.pb")
    names = [plane.name for plane in jax.profiler.ProfileData.from_file(str(trace)).planes]
    assert any("CPU" in name for name in names)


def test_timing_tells_where_the_time_went(paths):
    """Also over a restart."""
    values = config(paths, "timed", checkpoint__every=2, train__steps=6)
    train(values)
    lines = [json.loads(line) for line in (paths[0] / "timed" / "timing.jsonl").read_text().splitlines()]
    assert lines[2]["checkpoint_seconds"] > 0 == lines[1]["checkpoint_seconds"]  # told by the line behind it
    shutil.rmtree(paths[0] / "timed" / "checkpoints" / "6")
    train(values)
    again = [json.loads(line) for line in (paths[0] / "timed" / "timing.jsonl").read_text().splitlines()]
    assert again[:4] == lines[:4]
    assert 0 < again[4]["useful_seconds"] - lines[3]["useful_seconds"] < 60
    assert again[4]["seconds_since_first_start"] > lines[5]["seconds_since_first_start"]
    for line in again:
        assert line["goodput"] == pytest.approx(line["useful_seconds"] / line["seconds_since_first_start"])


def test_compiled_programs_are_kept(paths):
    before = jax.config.jax_compilation_cache_dir
    least = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        train(config(paths, "cached", train__steps=1))
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
    assert list((paths[0] / "cached" / "cache" / "xla").glob("jit_train_step-*"))
    assert jax.config.jax_compilation_cache_dir == before
    train(config(paths, "not-cached", train__steps=1, compile_cache=""))
    assert not (paths[0] / "not-cached" / "cache" / "xla").exists()


@pytest.mark.parametrize("steps", ["10", "3:2", "0:1", "a:b", "1:2:3"])
def test_steps_to_trace_that_are_none(paths, steps):
    with pytest.raises(UserError, match=r"profile.steps is .*; give the first and the last, as 10:13"):
        train(config(paths, "no-steps", profile__steps=steps))


def test_tokens_without_a_row_in_the_embedding_are_refused(paths, tokenizer_dir):
    folder = paths[0] / "short"
    TinyLlava(kv_heads=2, vocab=300).write(folder, tokenizer=tokenizer_dir)
    with pytest.raises(UserError, match="the model's vocabulary has 300 rows"):
        train(config(paths, "short-run", model__path=str(folder)))


def test_a_misspelt_key_in_a_config_file_is_refused():
    with pytest.raises(AttributeError, match="steps"):
        llava15.get_config().train.stepz = 3
