"""Feedback for LLaVA-1.5-7B as RLAIF-V makes it: ten candidates a question, claims, questions, scores, pairs.

    python -m rlaifv_jax.feedback all --config=configs/feedback_llava15.py --questions=questions.jsonl \\
        --config.divide.model=models/llama3_split --config.question.model=models/llama3_changeq \\
        --config.output_dir=out/feedback

The two language models are the published ones (the README of RLAIF-V says where); a server or a function does as
well. The labeler is LLaVA-NeXT 34B, as the paper has it: 69 GB in bfloat16, which eight chips of 16 GB hold. Smaller
ones need one name only, --config.score.model=openbmb/MiniCPM-Llama3-V-2_5 or liuhaotian/llava-v1.5-13b, and
--config.score.server takes one that is served elsewhere. Models are loaded one after the other, never two at once.
"""

from ml_collections import ConfigDict

from configs import feedback_base


def get_config() -> ConfigDict:
    config = feedback_base.get_config()
    config.output_dir = "out/feedback_llava15"
    config.policy.model = "liuhaotian/llava-v1.5-7b"
    config.divide.model = "models/llama3_split"
    config.question.model = "models/llama3_changeq"
    config.score.model = "liuhaotian/llava-v1.6-34b"
    return config
