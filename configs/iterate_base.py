"""Every key that whole alignment rounds can have. Experiments import this and change what they need."""

from ml_collections import ConfigDict

from configs import base, feedback_base


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0  # round r uses seed + r for answers, pairs and the order of training
    config.output_dir = "out/iterate"  # gs://… or on a disk that all processes share; gets a directory for each round
    config.rounds = 4
    config.model = ConfigDict({"path": "", "vision_path": ""})  # what the first round starts from

    config.questions = ""  # file of questions
    config.questions_per_round = 0  # every round asks the next so many of them; 0: all of them each time

    # Everything about feedback (configs/feedback_base.py) and about training (configs/base.py). Models, data and
    # directories of a round are set by the round; the rest is as it says here.
    config.feedback = feedback_base.get_config()
    config.training = base.get_config()

    # How the checkpoints of a round are measured: a Python function, module:name, called as function(model, work,
    # config) and returning numbers of which 'score' is the larger the better. These come along:
    #   rlaifv_jax.selection:by_labeler   greedy answers to select.questions, judged by the feedback stages themselves
    #   rlaifv_jax.selection:newest       measures nothing and takes the last one
    config.select = ConfigDict({"function": "rlaifv_jax.selection:by_labeler", "questions": ""})
    config.select.max_new_tokens = 512
    config.keep_weights = "all"  # or 'best': remove the models of other checkpoints once one is chosen
    return config.lock()
