"""RLHF-V: Muffin-13B aligned with dense DPO on segments that people corrected (arXiv 2312.00849).

    python -m rlaifv_jax.train --config=configs/rlhfv.py --config.output_dir=gs://bucket/rlhfv
    python -m rlaifv_jax.train --config=configs/rlhfv.py:paper --config.output_dir=gs://bucket/rlhfv

Two recipes are published, which differ. `:readme`, or nothing, is the command in the authors' README (with
script/train/run_RLHFV.sh of Muffin): 2,160 steps of 8 pairs, three epochs of the 5,733, a checkpoint every half of
one, β 0.1, changed tokens weigh 1.1, sums of log-probs, random views of the pictures. `:paper` is what the paper says:
7 epochs in steps of 32 pairs, warm-up of 10 %, β 0.5, changed tokens weigh 5, log-probs divided by the weights of the
answer (its equation 5).
Both start from Muffin fine-tuned on VQAv2, at a learning rate of 5e-7 with a cosine and without decay (of which the
paper says nothing).

Trained is the whole model but what the authors freeze: patch embedding and image expert of BEiT-3. Changed tokens are
found in the answers alone; `--config.dpo.difference=padded_batch` finds them as the authors' code does. Policy and
reference see the same view of a picture; with `--config.data.augment_views=fresh` they do not, as with the authors.
"""

from ml_collections import ConfigDict

from configs import base

RECIPES = ("readme", "paper")


def get_config(recipe: str | None = None) -> ConfigDict:
    recipe = recipe or "readme"
    if recipe not in RECIPES:
        raise ValueError(f"configs/rlhfv.py:{recipe} is not known; choose one of {', '.join(RECIPES)}")
    config = base.get_config()
    config.model.path = "Yirany/RLHF-V_v0_SFT"
    config.data.path = "HaoyeZhang/RLHF-V-Dataset"
    config.output_dir = "out/rlhfv"
    config.train.vision = True
    config.optim.lr = 5e-7
    config.optim.weight_decay = 0.0
    if recipe == "readme":
        config.train.steps = 2160
        config.checkpoint.every = 360
        config.optim.warmup_ratio = 0.03
        config.dpo.beta = 0.1
        config.dpo.token_weight = 1.1
        config.data.augment = "muffin"
    else:
        config.train.epochs = 7.0
        config.train.batch_pairs = 32
        config.checkpoint.every = 0.5
        config.optim.warmup_ratio = 0.1
        config.dpo.beta = 0.5
        config.dpo.token_weight = 5.0
        config.dpo.average = True
    return config
