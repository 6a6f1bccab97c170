"""LLaVA-1.5-13B aligned with DPO, with the numbers of the 7B (configs/llava15.py).

    python -m rlaifv_jax.train --config=configs/llava15_13b.py \\
        --config.data.path=PAIRS --config.output_dir=gs://bucket/llava15_13b

The model is another, and nothing else: nobody has published a recipe of its own. As a labeler it needs no config, only
its name: `score.model` of configs/feedback_llava15.py. With `--config.lora.rank=64 --config.optim.lr=1e-5` adapters are
trained alone.
"""

from ml_collections import ConfigDict

from configs import llava15


def get_config() -> ConfigDict:
    config = llava15.get_config()
    config.model.path = "liuhaotian/llava-v1.5-13b"
    config.output_dir = "out/llava15_13b"
    return config
