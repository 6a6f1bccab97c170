"""SIGTERM and Ctrl-C: an orderly end, at the same step in all processes, with nothing lost and nothing repeated."""

import random
import re
import signal

import numpy as np
import pytest

from tests import world

STEPS = 60
TOGETHER = {"count": 2, "devices": 4}


@pytest.fixture(scope="module")
def setting(tmp_path_factory, tokenizer_dir):
    folder = tmp_path_factory.mktemp("stop")
    model, data = world.write_model(folder / "model", tokenizer_dir), world.write_pairs(folder / "pairs.parquet")
    settings = {
        "train__steps": STEPS,
        "train__longest_row": 320,
        "checkpoint__every": 40,
        "train__eval_every": 20,
        "data__eval_fraction": 0.2,
    }
    world.run_ok(world.command("train", model, data, folder / "whole", **settings))
    return folder, model, data, settings


def command(setting, name):
    folder, model, data, settings = setting
    return folder / name, world.command("train", model, data, folder / name, **settings)


def states(output):
    return sorted(int(path.name) for path in (output / "checkpoints").iterdir() if path.name.isdigit())


def check_same(setting, output, whole="whole"):
    """The same metrics and the same weights, bit for bit."""
    before = setting[0] / whole
    assert (output / "metrics.jsonl").read_bytes() == (before / "metrics.jsonl").read_bytes()
    assert {path.name for path in (output / "weights").iterdir()} == {"40", str(STEPS)}
    ours, theirs = world.weights(output, STEPS), world.weights(before, STEPS)
    for path, value in theirs.items():
        np.testing.assert_array_equal(ours[path], value, err_msg=path)


def stop_at(output, start, step, how=signal.SIGTERM, status=0, **job):
    """Let a run come to a step and ask it to end; see that it has, and what it says."""
    running = world.Job(start, **job).wait_for(world.at_step(output, step))
    reached = world.metrics(output)[-1]["step"]
    ended = running.send(how).end(60)
    assert [code for code, _ in ended] == [status] * len(ended), ended
    done = world.metrics(output)[-1]["step"]
    assert states(output)[-1] == done  # the last step there is is saved
    said = [line for line in ended[0][1].splitlines() if "of 60 steps are done and saved" in line]
    assert len(said) == 1
    assert not any("done and saved" in text for _, text in ended[1:])
    return reached, done


def test_a_run_that_was_asked_to_end_twice_equals_the_unbroken_one(setting):
    output, start = command(setting, "one")
    reached, done = stop_at(output, start, 7)
    assert reached <= done < 40
    assert not (output / "weights").exists()  # the state alone has to be written
    stop_at(output, start, done + 3, signal.SIGINT, 130)
    world.run_ok(start)
    check_same(setting, output)


def test_two_processes_end_at_the_same_step_though_only_one_is_told(setting):
    output, start = command(setting, "two")
    running = world.Job(start, **TOGETHER).wait_for(world.at_step(output, 5))
    running.processes[1].send_signal(signal.SIGTERM)
    ended = running.end(60)
    assert [code for code, _ in ended] == [0, 0], ended
    assert states(output) == [world.metrics(output)[-1]["step"]]
    assert 5 <= states(output)[0] < STEPS


def test_a_second_ctrl_c_ends_at_once(setting):
    folder, model, data, settings = setting
    output = folder / "twice"
    start = world.command("train", model, data, output, **{**settings, "train__steps": 100_000})
    running = world.Job(start).wait_for(world.at_step(output, 2))
    (process,) = running.processes
    process.send_signal(signal.SIGSTOP)  # both are there before it can end in order
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    running.wait_for(lambda: "ending behind this step" in running.said()[0])
    status = process.poll()
    assert status is None or status == 130
    running.send(signal.SIGINT)
    assert running.end(60)[0][0] == 130


def test_the_reference_stage_keeps_what_it_has(setting):
    folder, model, *_ = setting
    output = folder / "reference"
    settings = {"reference__shard_rows": 1000, "train__batch_pairs": 1}
    many = world.write_pairs(folder / "many.parquet", 400)
    start = world.command("logprobs", model, many, output, **settings)
    running = world.Job(start)
    running.wait_for(lambda: re.search(r"reference log-probs: +[1-9]", running.said()[0]) is not None)
    ((status, said),) = running.send(signal.SIGTERM).end(60)
    assert status == 0
    assert "the reference log-probs that were computed are in" in said
    (first,) = (output / "reference").glob("*.parquet")
    stamp = first.stat().st_mtime_ns
    assert "400 rows ready" in world.run_ok(start)
    assert first.stat().st_mtime_ns == stamp
    assert len(list((output / "reference").glob("*.parquet"))) == 2


def test_before_the_first_step_there_is_nothing_to_wait_for(setting):
    output, start = command(setting, "early")
    running = world.Job(start).wait_for(output.exists)
    ((status, said),) = running.send(signal.SIGTERM).end(30)
    assert status == 0
    assert "stopped by SIGTERM before the first step" in said
    assert not (output / "metrics.jsonl").exists()


@pytest.mark.slow
def test_sigterm_at_ten_moments(setting):
    chance = random.Random(0)
    folder, model, data, settings = setting
    whole = world.command("train", model, data, folder / "whole-two", **settings)
    world.run_together(whole, **TOGETHER)
    for number in range(5):
        output, start = command(setting, f"ten-{number}")
        done = 0
        for last in (STEPS // 2, STEPS - 8):
            reached, done = stop_at(output, start, chance.randint(done + 1, max(last, done + 1)), **TOGETHER)
            assert reached <= done <= reached + 8  # what is read from the file here is behind the run
        world.run_together(start, **TOGETHER)
        check_same(setting, output, "whole-two")
