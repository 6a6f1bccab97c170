"""OmniLMM-12B aligned with DPO, all of it: what becomes RLAIF-V-12B.

    python -m rlaifv_jax.train --config=configs/omnilmm12b.py \\
        --config.data.path=PAIRS --config.output_dir=gs://bucket/omnilmm12b

Nobody has published a trainer of this model; rates and steps are those of the 7B (configs/llava15.py). The image tower
is trained, too: the published checkpoints say `tune_CLIP`, and it is more than a third of the model. With
`--config.train.vision=False` it stays as it is, and takes no memory for gradients and moments.

Pictures become 448 × 448 pixels whatever their proportions, and 256 positions of a row; the tokenizer's own template
says how conversations are written. Both follow from the checkpoint.
"""

from ml_collections import ConfigDict

from configs import llava15


def get_config() -> ConfigDict:
    config = llava15.get_config()
    config.model.path = "openbmb/OmniLMM-12B"
    config.output_dir = "out/omnilmm12b"
    config.train.vision = True
    return config
