"""LLaVA-1.5-7B on one machine with several GPUs, over ssh; one process has them all.

    python -m launch.cloud watch --config=configs/launch_gpus.py \\
        --config.host=me@machine --config.overrides="('output_dir=/data/llava15',)"
"""

from ml_collections import ConfigDict

from configs import launch_base


def get_config() -> ConfigDict:
    config = launch_base.get_config()
    config.name = "llava15-gpus"
    config.place = "host"
    config.experiment = "configs/llava15.py"
    return config
