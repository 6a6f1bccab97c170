"""OmniLMM-12B aligned with DPO by adapters, as configs/llava15_lora.py does it for the 7B.

    python -m rlaifv_jax.train --config=configs/omnilmm12b_lora.py \\
        --config.data.path=PAIRS --config.output_dir=gs://bucket/omnilmm12b_lora

Nobody has published this recipe: rank, alpha, dropout and learning rate are those of the 7B. The resampler is trained
whole, the image tower stays as it is.
"""

from ml_collections import ConfigDict

from configs import llava15_lora


def get_config() -> ConfigDict:
    config = llava15_lora.get_config()
    config.model.path = "openbmb/OmniLMM-12B"
    config.output_dir = "out/omnilmm12b_lora"
    return config
