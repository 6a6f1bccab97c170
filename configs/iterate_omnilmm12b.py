"""OmniLMM-12B aligned in four rounds in which it labels its own answers: what becomes RLAIF-V-12B.

    python -m rlaifv_jax.iterate --config=configs/iterate_omnilmm12b.py --dry-run \\
        --config.questions=questions.jsonl --config.select.questions=held_out.jsonl

The labeler stays what it was; the policy of a round is the best checkpoint of the one before. Everything else as
configs/iterate_llava15.py.
"""

from ml_collections import ConfigDict

from configs import feedback_omnilmm12b, iterate_llava15, omnilmm12b


def get_config() -> ConfigDict:
    config = iterate_llava15.get_config()
    config.output_dir = "out/iterate_omnilmm12b"
    config.model.path = "openbmb/OmniLMM-12B"
    config.feedback = feedback_omnilmm12b.get_config()
    steps = config.training
    config.training = omnilmm12b.get_config()
    config.training.train.update({"steps": steps.train.steps, "epochs": steps.train.epochs})
    config.training.checkpoint.every = steps.checkpoint.every
    return config
