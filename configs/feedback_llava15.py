"""Feedback for LLaVA-1.5-7B as RLAIF-V makes it: ten candidates a question, claims, questions, scores, pairs.

    python -m rlaifv_jax.feedback all --config=configs/feedback_llava15.py --questions=questions.jsonl \\
        --config.divide.model=models/llama3_split --config.question.model=models/llama3_changeq \\
        --config.output_dir=out/feedback

The two language models are the published ones (the README of RLAIF-V says where); a server or a function does as
well. The labeler is LLaVA-1.5-13B: the published 7B data was labelled by a LLaVA-NeXT of 34B, which is not here yet
(--config.score.server takes one that is served elsewhere). Models are loaded one after the other, never two at once.
"""

from ml_collections import ConfigDict

from configs import feedback_base


def get_config() -> ConfigDict:
    config = feedback_base.get_config()
    config.output_dir = "out/feedback_llava15"
    config.policy.model = "liuhaotian/llava-v1.5-7b"
    config.divide.model = "models/llama3_split"
    config.question.model = "models/llama3_changeq"
    config.score.model = "liuhaotian/llava-v1.5-13b"
    return config
