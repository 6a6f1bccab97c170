"""LLaVA-1.5-7B aligned with DPO: the published recipe of RLAIF-V (script/train/llava15_train.sh).

    python -m rlaifv_jax.train --config=configs/llava15.py \
        --config.data.path=openbmb/RLAIF-V-Dataset --config.output_dir=gs://bucket/llava15

Eight pairs in a step, four epochs, learning rate 5e-7 with 5 % warm-up and a cosine, no clipping, image tower
frozen. The original's 2,672 steps are four epochs of one alignment round (5,342 pairs); set
`--config.train.steps=2672` for that count on other data.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.model.path = "liuhaotian/llava-v1.5-7b"
    config.data.path = "openbmb/RLAIF-V-Dataset"
    config.output_dir = "out/llava15"
    return config
