"""Log-probabilities of the reference model, computed once and kept on disk.

    python -m rlaifv_jax.logprobs --config=configs/llava15.py --config.data.path=PAIRS

Reads a model and preference pairs; writes the pairs again with a column `logps`, as parquet files in the form of
the original, to reference.path (default: OUTPUT_DIR/reference). `rlaifv_jax.train` does the same by itself when
they are missing. Run it alone to prepare several experiments on one model and one data set, and point their
reference.path to the result.

Kill it at any time; started again it goes on behind the last finished file.
"""

from typing import Any

from rlaifv_jax import cli


def logprobs(config: Any) -> None:
    """Compute what is missing for the training and the held-out pairs of a config."""
    from rlaifv_jax.errors import UserError
    from rlaifv_jax.parallel import is_main
    from rlaifv_jax.reference import obtain
    from rlaifv_jax.session import session
    from rlaifv_jax.starting_model import StartingModel

    if config.dpo.reference_free:
        raise UserError("dpo.reference_free is set; there is no reference to compute log-probs of")
    if config.train.objective != "dpo":
        raise UserError(f"train.objective is {config.train.objective!r}; only 'dpo' has a reference")
    with session(config) as (run, stop):
        references, _ = obtain(run, StartingModel(run, name=None), stop)
        if is_main():
            cli.say(f"reference log-probs: {len(references.rows)} rows ready")


def main() -> None:
    cli.config_command(logprobs, __doc__ or "")


if __name__ == "__main__":
    main()
