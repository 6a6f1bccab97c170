"""Make preference pairs with feedback from open models: claims, questions, scores, pairs.

    python -m rlaifv_jax.feedback all --config=configs/feedback_llava15.py --questions=questions.jsonl
    python -m rlaifv_jax.feedback all --config=configs/feedback_llava15.py --config.candidates=answers.jsonl

    divide       answers → the claims each makes                  OUTPUT_DIR/divide
    question     claims → a yes/no question for each              OUTPUT_DIR/question
    score        questions → what a labeler thinks of them        OUTPUT_DIR/score
    pairs        scores → preference pairs, for training          OUTPUT_DIR/pairs
    all          these, one after the other, from answers or from questions (which are asked first)
    best_of_n    answers → the best one to each question          OUTPUT_DIR/best_of_n
    agreement    score sets of several labelers → how far they agree; takes no config, see `agreement --help`

Every stage reads files and writes files, in shards, with the original's fields (docs/data.md). Kill it at any time:
the same command goes on behind what is finished, and the files come out the same. What is complete is left alone. On
several hosts start the same command on each; they share the shards.
"""

import sys
from typing import Any

from rlaifv_jax import cli

STAGES = ("divide", "question", "score", "pairs", "all", "best_of_n")


def feedback(stage: str, config: Any) -> None:
    """Run one of STAGES."""
    from rlaifv_jax import parallel
    from rlaifv_jax.feedback.chain import Feedback

    parallel.initialize()
    getattr(Feedback(config), stage)()


def main() -> None:
    """Entry of the console script `rlaifv-feedback`."""
    if sys.argv[1:2] == ["agreement"]:
        from rlaifv_jax.feedback.agreement.command import command, parse_arguments

        given = parse_arguments(sys.argv[2:])
        sys.exit(cli.guard(lambda: command(given)))

    from absl import flags

    def define() -> None:
        flags.DEFINE_string("questions", "", "file of questions to start from; the same as --config.questions")

    def run(stage: str, config: Any) -> None:
        if flags.FLAGS.questions:
            config.questions = flags.FLAGS.questions
        feedback(stage, config)

    cli.config_command(
        run, __doc__ or "", define, base="feedback_base.py", stages=STAGES, example="configs/feedback_llava15.py"
    )


if __name__ == "__main__":
    main()
