"""LLaVA-1.5-7B on a spot slice, brought back after every preemption.

    python -m launch.cloud watch --config=configs/launch_llava15.py:v5e-16 \\
        --config.zone=us-west4-a --config.bucket=gs://my-bucket/runs

The argument is the slice (v5e-16 without one). Up to 8 chips get the published recipe, more of them
configs/llava15_large.py.
"""

from ml_collections import ConfigDict

from configs import launch_base
from launch.cloud import accelerators


def get_config(accelerator: str | None = None) -> ConfigDict:
    config = launch_base.get_config()
    config.accelerator = accelerator or "v5e-16"
    config.name = f"llava15-{config.accelerator}"
    config.spot = True
    chips = accelerators.find(config.accelerator).chips
    config.experiment = "configs/llava15.py" if chips <= 8 else f"configs/llava15_large.py:{chips}"
    return config
