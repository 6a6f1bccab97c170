"""The shipped models of the small world, and a short DPO run on them."""

import json
import math
from pathlib import Path

import pytest

from configs.shapes import STAGES, get_config
from rlaifv_jax.shapes import heldout
from rlaifv_jax.shapes.datasets import HeldOut, write_pairs
from rlaifv_jax.shapes.demo import demo, parse_arguments
from rlaifv_jax.shapes.measure import Measurement


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[HeldOut]:
    return heldout.unseen(tmp_path_factory.mktemp("heldout") / "heldout.parquet", 60, seed=11)


def measured(model: str, scenes: list[HeldOut]) -> Measurement:
    return heldout.judge(scenes, heldout.describe(heldout.MODELS / model, scenes))


def test_the_policy_hallucinates(scenes: list[HeldOut]) -> None:
    policy = measured("policy", scenes)
    assert 0.3 <= policy.response_hallucination <= 0.65
    assert policy.recall > 0.8
    assert policy.malformed == 0


def test_the_base_hardly_does(scenes: list[HeldOut]) -> None:
    base = measured("base", scenes)
    assert base.response_hallucination <= 0.1
    assert base.recall > 0.95


def test_models_are_small_and_complete() -> None:
    sizes = {path: path.stat().st_size for path in heldout.MODELS.rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= 8e6
    for model in ("base", "policy"):
        weights = heldout.MODELS / model / "model.safetensors"
        assert sizes[weights] <= 1.25e6
        config = json.loads((heldout.MODELS / model / "config.json").read_text())
        assert config["architectures"] == ["LlavaForConditionalGeneration"]
        assert config["torch_dtype"] == "bfloat16"
        assert (heldout.MODELS / model / "tokenizer.model").exists()


def test_a_few_steps_of_dpo(tmp_path: Path) -> None:
    from rlaifv_jax.train import train

    config = get_config()
    config.data.path, config.output_dir = str(tmp_path / "pairs.parquet"), str(tmp_path / "run")
    config.train.steps, config.train.batch_pairs = 6, 16
    write_pairs(config.data.path, 60, seed=5)
    train(config)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert lines[-1]["loss"] < 0.65
    assert lines[-1]["rewards_train/margins"] > 0.1


@pytest.mark.slow
def test_demo_halves_hallucination(tmp_path: Path) -> None:
    summary = demo(tmp_path / "demo", seed=4, scenes=600, held_out=150)
    before, after = summary["stages"]["base"], summary["stages"]["round_1"]
    assert after["response_hallucination"] <= before["response_hallucination"] / 2
    assert after["mention_hallucination"] <= before["mention_hallucination"] / 2
    assert after["recall"] >= before["recall"] - 0.05
    assert abs(after["mean_words"] / before["mean_words"] - 1) <= 0.15
    assert json.loads((tmp_path / "demo" / "summary.json").read_text()) == summary
    for name in ("pairs.parquet", "heldout.parquet", "captions.jsonl", "examples.png"):
        assert (tmp_path / "demo" / name).stat().st_size > 0


def test_stages_of_the_config() -> None:
    assert get_config().to_dict() == get_config("dpo").to_dict()
    assert {get_config(stage).train.objective for stage in STAGES} == {"sft", "dpo"}
    with pytest.raises(ValueError, match="base, policy, dpo"):
        get_config("labeller")


def test_arguments() -> None:
    parsed = parse_arguments(["--seed", "3", "--scenes", "100"])
    assert (parsed.seed, parsed.scenes, parsed.held_out) == (3, 100, 300)
    with pytest.raises(SystemExit):
        parse_arguments(["--scenes", "3"])
