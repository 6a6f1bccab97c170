"""Feedback for OmniLMM-12B as RLAIF-V-12B had it: the model labels its own answers, drawn with a
repetition penalty.

    python -m rlaifv_jax.feedback all --config=configs/feedback_omnilmm12b.py --questions=questions.jsonl \\
        --config.divide.model=models/llama3_split --config.question.model=models/llama3_changeq

Everything else as configs/feedback_llava15.py.
"""

from ml_collections import ConfigDict

from configs import feedback_llava15


def get_config() -> ConfigDict:
    config = feedback_llava15.get_config()
    config.output_dir = "out/feedback_omnilmm12b"
    config.policy.model = config.score.model = "openbmb/OmniLMM-12B"
    config.policy.repetition_penalty = 1.1
    return config
