"""LLaVA-1.5-7B aligned with DPO by adapters: the published recipe (script/train/llava15_train_lora.sh of RLAIF-V).

    python -m rlaifv_jax.train --config=configs/llava15_lora.py \\
        --config.data.path=PAIRS --config.output_dir=gs://bucket/llava15_lora

Rank 64, alpha 16 and dropout 0.05 on the seven linear maps of every decoder layer, the projector trained whole, all at
a learning rate of 1e-5, 20 times that of configs/llava15.py; all else is as there. The decoder itself stays as it is,
in bfloat16 or, with `--config.lora.base=int8`, in half of that: then the whole run fits one chip of 16 GB.

OUTPUT_DIR/weights/STEP holds adapters and projector as PEFT keeps them. It is a model.path, a --model and a SRC of
`python -m convert export` like any other, as long as the base model is where it was.
"""

from ml_collections import ConfigDict

from configs import llava15


def get_config() -> ConfigDict:
    config = llava15.get_config()
    config.output_dir = "out/llava15_lora"
    config.optim.lr = 1e-5
    config.lora.rank = 64
    return config
