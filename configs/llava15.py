"""LLaVA-1.5-7B aligned with DPO: the published recipe of RLAIF-V (script/train/llava15_train.sh).

    python -m rlaifv_jax.train --config=configs/llava15.py \\
        --config.data.path=PAIRS --config.output_dir=gs://bucket/llava15

Eight pairs in a step, learning rate 5e-7 with 5 % warm-up and a cosine, no clipping, image tower frozen. The 2,672
steps of the published script are four epochs of one alignment round (5,342 pairs) and one step more; a checkpoint is
kept every quarter of an epoch. For a set of another size say `--config.train.steps=0 --config.train.epochs=4
--config.checkpoint.every=0.25`; the whole of RLAIF-V-Dataset (83,132 pairs, all rounds of several models) would take
41,566 steps.

Eight pairs fill four rows, so they feed four devices well; on eight, each has a row that is 70 % full. On more, give
the rest to mesh.tensor (16 chips: --config.mesh.tensor=2), or raise train.batch_pairs, which is another recipe:
configs/llava15_large.py.
"""

from ml_collections import ConfigDict

from configs import base


def get_config() -> ConfigDict:
    config = base.get_config()
    config.model.path = "liuhaotian/llava-v1.5-7b"
    config.data.path = "openbmb/RLAIF-V-Dataset"
    config.output_dir = "out/llava15"
    config.train.steps = 2672
    config.checkpoint.every = 167
    return config
