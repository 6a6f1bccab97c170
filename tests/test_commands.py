"""What a person meets at the terminal."""

import subprocess
import sys

import pytest

from tests import world

HEAVY = ("jax", "torch", "transformers", "datasets", "orbax")


@pytest.mark.parametrize(
    "module",
    [
        *("rlaifv_jax.train", "rlaifv_jax.logprobs", "rlaifv_jax.generate", "rlaifv_jax.chat", "rlaifv_jax.view"),
        *("convert", "launch.cloud"),
    ],
)
def test_help_teaches_without_loading_jax(module):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", module, "--help"],
        cwd=world.ROOT,
        env=world.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"python -m {module}" in done.stdout
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert not imported & set(HEAVY)


def test_importing_the_package_is_light():
    code = "import rlaifv_jax, sys; print([m for m in sys.modules if m in ('jax', 'numpy')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=world.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def paths(tmp_path_factory, tokenizer_dir):
    folder = tmp_path_factory.mktemp("commands")
    return world.write_model(folder / "model", tokenizer_dir), world.write_pairs(folder / "pairs.parquet", 5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optim__lrr": 1}, "Did you mean"),
        ({"model__path": "/nowhere"}, "model.path: /nowhere is neither a directory nor a hub id"),
        ({"data__path": "/nowhere.parquet"}, "/nowhere.parquet"),
        ({"train__objective": "ppo"}, "train.objective is 'ppo'; it can be 'dpo' or 'sft'"),
        ({"precision__compute": "float16"}, "precision.compute is 'float16'"),
        ({"train__row_length": 8}, "none of its 5 rows can be used (5 longer_than_row)"),
        ({"mesh__fsdp": 3}, "does not make the 1 devices"),
        ({"data__template": "chatml"}, "llava_v1"),
        ({"data__eval_fraction": 0.99}, "leaves nothing to train on"),
        ({"train__log_every": 0}, "train.log_every is 0; it must be 1 or more"),
        ({"optim__lr": "nan"}, "optim.lr is nan"),
        ({"output_dir": "/proc/nothing"}, "output_dir: /proc/nothing cannot be written"),
    ],
)
def test_a_mistake_is_one_line(paths, tmp_path, settings, message):
    done = world.run(world.command("train", *paths, tmp_path / "run", **settings))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line


def test_an_unknown_recipe_is_one_line():
    command = [sys.executable, "-m", "rlaifv_jax.train", "--config=configs/rlhfv.py:draft"]
    done = world.run(command)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith("configs/rlhfv.py:draft is not known; choose one of readme, paper: see --help for all keys")
