"""Two alignment rounds in the small world, minutes on two CPU cores (rlaifv_jax/shapes).

    python -m rlaifv_jax.iterate --config=configs/iterate_shapes.py

`python -m rlaifv_jax.shapes.demo` (`make demo`) writes the questions and runs this very config. Claims are found by the
grammar of captions instead of a language model; the labeler is a tiny LLaVA of its own. The true scenes are used to
choose among checkpoints, on scenes that are neither trained nor finally measured on, and never for a label.
"""

from pathlib import Path

from ml_collections import ConfigDict

from configs import iterate_base, shapes


def get_config() -> ConfigDict:
    import rlaifv_jax.shapes  # found from any directory

    here = Path(rlaifv_jax.shapes.__file__).parent
    config = iterate_base.get_config()
    config.output_dir = "out/demo/rounds"
    config.questions = "out/demo/questions.jsonl"
    config.rounds = 2
    config.questions_per_round = 600
    config.model.path = str(here / "models" / "policy")

    feedback = config.feedback
    feedback.policy.temperature = 1.0
    feedback.policy.max_new_tokens = 80  # seven sentences; no true caption has more than five
    feedback.policy.dtype = "float32"
    feedback.divide.function = "rlaifv_jax.shapes.claims:split"
    feedback.question.function = "rlaifv_jax.shapes.claims:ask"
    feedback.score.model = str(here / "models" / "labeler")
    feedback.score.prompt = str(here / "check.txt")
    feedback.score.row_length = 1024
    # Captions have some false sentences too many, and no claim tells of what they leave out: chosen captions may be a
    # little shorter, or nobody learns to invent less, and not by much, or they shrink.
    feedback.pairs.balance, feedback.pairs.tolerance = "two_sided", 0.05

    config.training = shapes.get_config("dpo")
    config.training.checkpoint.every = 0.25
    config.select.function = "rlaifv_jax.shapes.selection:measure"
    return config
