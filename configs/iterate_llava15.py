"""LLaVA-1.5-7B aligned in four rounds of answers, feedback, DPO and selection, as RLAIF-V did it by hand.

    python -m rlaifv_jax.iterate --config=configs/iterate_llava15.py --dry-run \\
        --config.questions=questions.jsonl --config.select.questions=held_out.jsonl --config.output_dir=out/llava15

--dry-run prints the plan and an estimate of its cost. Each round: ten answers to each of 4,000 questions, claims,
questions and scores by open models, two pairs an image at most, four epochs of DPO with a checkpoint every quarter of
an epoch, every checkpoint measured, the best one the start of the next round. The published selection is by Object
HalBench and MMHal-Bench; here it is by the labeler, on questions of your own that no round asks.
"""

from ml_collections import ConfigDict

from configs import feedback_llava15, iterate_base, llava15


def get_config() -> ConfigDict:
    config = iterate_base.get_config()
    config.output_dir = "out/iterate_llava15"
    config.model.path = "liuhaotian/llava-v1.5-7b"
    config.questions_per_round = 4000
    config.feedback = feedback_llava15.get_config()
    config.training = llava15.get_config()
    config.training.train.steps = 0
    config.training.train.epochs = 4.0
    config.training.checkpoint.every = 0.25
    return config
