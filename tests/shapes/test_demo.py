"""The shipped models of the small world, a short DPO run on them, and the demo."""

import json
import math
import statistics
import sys
from pathlib import Path

import pytest

from configs import iterate_shapes
from configs.shapes import STAGES, get_config
from rlaifv_jax.errors import UserError
from rlaifv_jax.shapes import agreement, heldout
from rlaifv_jax.shapes.best import NUMBERS
from rlaifv_jax.shapes.datasets import HeldOut, write_pairs
from rlaifv_jax.shapes.demo import WRITTEN, demo, parse_arguments
from rlaifv_jax.shapes.measure import Measurement
from tests import world


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


def test_the_labeler_sees_every_kind_of_error(scenes: list[HeldOut]) -> None:
    found = agreement.agree(heldout.MODELS / "labeler", scenes, seed=0)
    rates = {kind: right / count for kind, (right, count) in found.items()}
    assert agreement.overall(found) >= 0.93
    assert min(rates[kind] for kind in ("true", "size", "color", "shape", "empty_cell")) >= 0.9
    assert rates["other_cell"] >= 0.6
    assert agreement.table(found).splitlines()[-1].split()[0] == "all"


def test_models_are_small_and_complete() -> None:
    sizes = {path: path.stat().st_size for path in heldout.MODELS.rglob("*") if path.is_file()}
    assert sum(sizes.values()) <= 8e6
    for model in ("base", "policy", "labeler"):
        weights = heldout.MODELS / model / "model.safetensors"
        assert sizes[weights] <= 1.6e6
        config = json.loads((heldout.MODELS / model / "config.json").read_text())
        assert config["architectures"] == ["LlavaForConditionalGeneration"]
        assert config["torch_dtype"] == "bfloat16"
        assert (heldout.MODELS / model / "tokenizer.model").exists()


def test_a_few_steps_of_dpo(tmp_path: Path) -> None:
    from rlaifv_jax.train import train

    config = get_config()
    config.data.path, config.output_dir = str(tmp_path / "pairs.parquet"), str(tmp_path / "run")
    config.train.steps, config.train.batch_pairs = 6, 16
    config.dpo.sft_weight = 0.0
    write_pairs(config.data.path, 60, seed=5)
    train(config)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert lines[-1]["loss"] < 0.68
    assert lines[-1]["rewards_train/margins"] > 0.03


def test_a_demo_of_few_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Everything is there; what so few scenes teach is not asked."""
    output = tmp_path / "demo"
    output.mkdir()
    (output / "summary.json").write_text("of somebody else")
    with pytest.raises(UserError, match=r"holds summary.json, which no demo has left there"):
        demo(output, seed=4, scenes=50, held_out=20)
    (output / ".demo").touch()
    summary = demo(output, seed=4, scenes=50, held_out=20)
    assert json.loads((output / "summary.json").read_text()) == summary
    assert list(summary["stages"]) == ["base", "round_1", "round_2", "best_of_8"]
    for rates in summary["stages"].values():
        assert set(rates) == set(heldout.RATES)
        assert all(0 <= rates[rate] <= 1 for rate in heldout.RATES if rate != "mean_words")
    assert set(summary["best_of_n"]) == {"reward", "likelihood"}
    assert list(summary["best_of_n"]["reward"]) == [str(number) for number in NUMBERS]
    assert summary["best_of_n"]["reward"]["1"] == summary["best_of_n"]["likelihood"]["1"]
    assert summary["labeler_agreement"]["all"] > 0.9
    assert len(summary["pairs"]) == 2
    for name in WRITTEN:
        assert (output / name).exists()
    lines = [json.loads(line) for line in (output / "captions.jsonl").read_text().splitlines()]
    assert [set(line) for line in lines] == [{"idx", "base", "round_1", "round_2", "scene"}] * 20
    said = capsys.readouterr().out
    assert "captions with a false claim" in said
    assert "round 2" in said
    assert str(output / "report.html") in said
    page = (output / "report.html").read_text()
    assert all(
        f">{name}</h2>" in page for name in ("Hallucination", "Before and after", "Training", "Claims and pairs")
    )
    assert "have both answered 20 questions" in page


def test_the_smoke_test() -> None:
    """What is run under the newest JAX works here, too."""
    done = world.run([sys.executable, "-m", "rlaifv_jax.shapes.smoke"])
    assert done.returncode == 0, done.stderr[-3000:]
    assert "works here: losses 0.6931, " in done.stdout


@pytest.mark.slow
def test_three_seeds(tmp_path: Path) -> None:
    """Hallucination falls by three quarters and more, from round to round; recall and length stay."""
    stages = [demo(tmp_path / str(seed), seed, scenes=600, held_out=300)["stages"] for seed in range(3)]

    def mean(stage: str, rate: str) -> float:
        return statistics.mean(each[stage][rate] for each in stages)

    false = {stage: mean(stage, "response_hallucination") for stage in stages[0]}
    assert false["round_2"] <= 0.25 * false["base"]
    assert all(each["round_2"]["response_hallucination"] < each["round_1"]["response_hallucination"] for each in stages)
    assert mean("round_2", "mention_hallucination") <= 0.25 * mean("base", "mention_hallucination")
    assert mean("round_2", "recall") >= mean("base", "recall")
    assert abs(mean("round_2", "mean_words") / mean("base", "mean_words") - 1) <= 0.05


def test_stages_of_the_config() -> None:
    assert get_config().to_dict() == get_config("dpo").to_dict()
    assert {get_config(stage).train.objective for stage in STAGES} == {"sft", "dpo"}
    with pytest.raises(ValueError, match="base, policy, seeing, labeler, dpo"):
        get_config("labeller")
    assert iterate_shapes.get_config().training.dpo.sft_weight == get_config().dpo.sft_weight


def test_arguments() -> None:
    parsed = parse_arguments(["--seed", "3", "--scenes", "100"])
    assert (parsed.seed, parsed.scenes, parsed.held_out) == (3, 100, 300)
    with pytest.raises(SystemExit):
        parse_arguments(["--scenes", "3"])
