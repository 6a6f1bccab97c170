"""The small world: every stage of a tiny LLaVA's life, minutes on two CPU cores (rlaifv_jax/shapes).

    python -m rlaifv_jax.train --config=configs/shapes.py            DPO on the shipped policy, one round of it
    python -m rlaifv_jax.train --config=configs/shapes.py:base       SFT on true captions and questions
    python -m rlaifv_jax.train --config=configs/shapes.py:policy     SFT of the base on captions with a bias
    python -m rlaifv_jax.train --config=configs/shapes.py:seeing     SFT of another model on captions and questions
    python -m rlaifv_jax.train --config=configs/shapes.py:labeler    SFT of that, mostly on yes/no questions

`python -m rlaifv_jax.shapes.demo` (`make demo`) makes the pairs for the first, see configs/iterate_shapes.py;
`python -m rlaifv_jax.shapes.build` makes data and models of the others. Both run these very configs.
Small models need large steps: the learning rate of DPO is 200 times that of the 7B model.
"""

from pathlib import Path

from ml_collections import ConfigDict

from configs import base

STAGES = ("base", "policy", "seeing", "labeler", "dpo")


def get_config(stage: str | None = None) -> ConfigDict:
    stage = stage or "dpo"
    if stage not in STAGES:
        raise ValueError(f"configs/shapes.py:{stage} is not known; choose one of {', '.join(STAGES)}")
    config = base.get_config()
    config.precision.compute = "float32"  # bfloat16 is slow on CPUs
    config.data.workers = 0  # a picture of 48 pixels takes less time to decode than to send between processes
    config.train.remat = "none"
    config.train.batch_pairs = 32
    config.checkpoint.every = 100_000  # at the end only
    config.optim.grad_clip = 1.0
    config.optim.warmup_ratio = 0.1

    if stage == "dpo":
        import rlaifv_jax.shapes  # found from any directory

        config.model.path = str(Path(rlaifv_jax.shapes.__file__).parent / "models" / "policy")
        config.data.path = "out/demo/rounds/round_1/pairs"
        config.output_dir = "out/shapes/runs/dpo"
        config.train.epochs = 1.0
        config.optim.lr = 1e-4
        config.optim.weight_decay = 0.0
        config.dpo.beta = 0.1
        config.dpo.sft_weight = 0.1  # holds on to what is said rightly, without which long runs learn to say more
        return config

    config.train.objective = "sft"
    starts = {
        "base": "start",
        "policy": "models/base",
        "seeing": "labeler_start",
        "labeler": "runs/seeing/weights/2500",
    }
    config.model.path = f"out/shapes/{starts[stage]}"
    config.data.path = f"out/shapes/{stage}.parquet"
    config.output_dir = f"out/shapes/runs/{stage}"
    config.train.row_length = 144
    config.optim.beta2 = 0.98
    config.train.steps = {"base": 1100, "policy": 500, "seeing": 2500, "labeler": 2500}[stage]
    config.optim.lr = {"base": 2e-3, "policy": 1e-3, "seeing": 2e-3, "labeler": 1.5e-3}[stage]
    if stage != "policy":
        config.optim.warmup_ratio = 0.05
    return config
