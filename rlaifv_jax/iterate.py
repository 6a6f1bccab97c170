"""Whole alignment rounds: answers, feedback, reference log-probs, DPO, every checkpoint measured, the best one goes on.

    python -m rlaifv_jax.iterate --config=configs/iterate_llava15.py --dry-run          the plan, and what it costs
    python -m rlaifv_jax.iterate --config=configs/iterate_llava15.py --config.questions=questions.jsonl

Writes to output_dir, for each round r:

    round_r/candidates.jsonl, divide/, question/, score/, pairs/    as rlaifv_jax.feedback
    round_r/train/                                                  as rlaifv_jax.train
    round_r/measured/STEP/                                          what the selection keeps of each checkpoint
    state.json                                                      what is done, measured, chosen; seconds it took

Kill it at any time: the same command goes on behind what is finished. On several hosts start it on each.
"""

from typing import Any

from rlaifv_jax import cli


def iterate(config: Any, *, dry_run: bool = False) -> list[dict[str, Any]]:
    """Run what is left of all rounds; returns state.json's account of each."""
    from rlaifv_jax import parallel
    from rlaifv_jax.plan_of_rounds import plan
    from rlaifv_jax.rounds import Round, State, check

    check(config)
    parallel.initialize()
    parallel.make_mesh(**config.training.mesh)  # which may not be one of these devices
    state = State(config, write=not dry_run)
    if parallel.is_main():
        cli.say(plan(config, state))
    if dry_run:
        return state.rounds

    for number in range(1, config.rounds + 1):
        step = Round(config, number, state)
        step.candidates()
        step.feedback()
        step.train()
        step.measure()
        step.choose()
        if parallel.is_main():
            cli.say(f"round {number}: the model is {state.model_after(number)}")
    return state.rounds


def main() -> None:
    """Entry of the console script `rlaifv-iterate`."""
    from absl import flags

    def define() -> None:
        flags.DEFINE_bool("dry_run", False, "print the plan and stop (also --dry-run)")

    def run(config: Any) -> None:
        iterate(config, dry_run=flags.FLAGS.dry_run)

    cli.config_command(run, __doc__ or "", define, base="iterate_base.py", example="configs/iterate_llava15.py")


if __name__ == "__main__":
    main()
