"""LLaVA-1.5-7B with DPO on slices that eight pairs cannot fill. Another recipe than the published one.

    python -m rlaifv_jax.train --config=configs/llava15_large.py:16 \\
        --config.data.path=PAIRS --config.output_dir=gs://bucket/llava15

The argument is the number of chips (16 without one). Each gets four packed rows, about 7.6 pairs, in a step: enough
for the weights to arrive while it computes. Sixteen chips take 122 pairs a step, fifteen times the published eight;
the learning rate grows with the square root of that. Nobody has published results of these settings: compare with
configs/llava15.py on a small set before a long run. From 32 chips on, groups of 16 share out the weights. Four epochs
of the data, a checkpoint every quarter of one.
"""

import math

from ml_collections import ConfigDict

from configs import llava15

PAIRS_PER_CHIP = 61 / 8  # what four rows of 1,600 hold of the published lengths, 94 % full

LARGEST_SHARD = 16  # chips that share out one copy of the weights; more of them would only wait for each other


def get_config(chips: str | None = None) -> ConfigDict:
    count = int(chips or 16)
    if count < 1:
        raise ValueError(f"configs/llava15_large.py:{chips} needs at least one chip")
    config = llava15.get_config()
    pairs = round(PAIRS_PER_CHIP * count)
    config.train.batch_pairs = pairs
    if count > LARGEST_SHARD and count % LARGEST_SHARD == 0:
        config.mesh.data = count // LARGEST_SHARD
    config.optim.lr *= math.sqrt(pairs / 8)
    config.train.steps = 0
    config.train.epochs = 4.0
    config.checkpoint.every = 0.25
    return config
