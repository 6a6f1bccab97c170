"""A launcher config: what becomes of it, and what is refused."""

import pytest

from configs import launch_gpus, launch_llava15
from launch.cloud.settings import read, secret_values
from rlaifv_jax.errors import UserError
from tests.launch.cloud.clouds import config, launch


def test_the_command_is_one_that_could_be_typed(tmp_path):
    made = launch(tmp_path, overrides=("train.steps=100", "data.path=a b.parquet"), arguments=("--verbosity=0",))
    assert made.command == (
        "-m",
        "rlaifv_jax.train",
        "--config=configs/llava15.py",
        "--config.train.steps=100",
        "--config.data.path=a b.parquet",
        "--config.output_dir=gs://bucket/runs/tiny",
        "--verbosity=0",
    )


def test_an_output_dir_of_ones_own_stays(tmp_path):
    made = launch(tmp_path, overrides=("output_dir=/data/out",))
    assert "--config.output_dir=/data/out" in made.command
    assert not any("gs://" in word for word in made.command)


def test_the_shipped_configs_need_no_more_than_they_say():
    for slice_, recipe in (("v5e-8", "configs/llava15.py"), ("v6e-32", "configs/llava15_large.py:32")):
        spot = launch_llava15.get_config(slice_)
        spot.zone, spot.bucket = "us-west4-a", "gs://bucket/runs"
        assert f"--config={recipe}" in read(spot).command
    gpus = launch_gpus.get_config()
    gpus.host, gpus.overrides = "me@machine", ("output_dir=/data/out",)
    assert read(gpus).hosts == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": ""}, "name is empty: give --config.name"),
        ({"name": "a; rm -rf ~"}, "name is 'a; rm -rf ~', not of the form"),
        ({"name": "a\n"}, "not of the form"),
        ({"zone": ""}, "zone is empty"),
        ({"zone": "us-west4"}, "zone is 'us-west4'"),
        ({"place": "moon"}, "place is 'moon'; it can be"),
        ({"place": "gke"}, "image is empty"),
        ({"place": "host"}, "host is empty"),
        ({"place": "host", "host": "-oProxyCommand=x"}, "host is '-oProxyCommand=x'"),
        ({"accelerator": ""}, "which chips"),
        ({"bucket": "bucket"}, "bucket is 'bucket'"),
        ({"bucket": ""}, "bucket is empty"),
        ({"bucket": "", "overrides": ("output_dir=out/x",)}, "bucket is empty"),
        ({"experiment": "configs/none.py"}, "experiment: configs/none.py is no file"),
        ({"experiment": "/etc/passwd"}, "experiment: /etc/passwd is no file"),
        ({"overrides": ("train.steps",)}, "overrides: 'train.steps' is not of the form NAME=VALUE"),
        ({"overrides": ("--config.x=1",)}, "not of the form NAME=VALUE"),
        ({"overrides": ("data.path=a\0b",)}, "without zero bytes"),
        ({"environment": ("command=x",)}, "environment: 'command=x' is not of the form"),
        ({"secrets": ("HF_TOKEN=hf_abc",)}, "give names of environment variables, not their values"),
        ({"watch__every": 0.0}, "must be positive"),
        ({"restarts": -1}, "restarts is -1"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, settings, message):
    with pytest.raises(UserError) as raised:
        read(config(tmp_path, **settings))
    assert message in str(raised.value)
    assert "hf_abc" not in str(raised.value)


def test_a_secret_must_be_set(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert secret_values(launch(tmp_path, secrets=("HF_TOKEN",))) == {"HF_TOKEN": "hf_abc"}
    with pytest.raises(UserError, match="secrets: WANDB_API_KEY is not set here"):
        secret_values(launch(tmp_path, secrets=("HF_TOKEN", "WANDB_API_KEY")))
