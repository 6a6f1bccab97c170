"""Train a vision-language model on preference pairs (DPO) or on answers (SFT).

    python -m rlaifv_jax.train --config=configs/llava15.py \\
        --config.data.path=openbmb/RLAIF-V-Dataset --config.output_dir=gs://bucket/llava15

On a TPU pod slice start the same command on every host. Reads a model (Hugging Face directory, hub id, or a
directory this project wrote) and pairs (parquet, JSONL, hub id). Writes to output_dir:

    config.json      the resolved config                metrics.jsonl   loss, rewards, …: deterministic
    checkpoints/     full states, for resuming          timing.jsonl    speed, waits: measured by a clock
    weights/STEP/    models or adapters, ready to use   tensorboard/    both, as curves (not on gs://)
    reference/       log-probs of the starting model    bad_rows.jsonl  rows that were left out, and why
    cache/           lengths and hashes of the data, compiled programs
    machines.json    devices and versions of every start

SIGTERM or Ctrl-C: it ends behind the step in flight, saved, with status 0 or 130. Started again with the same config it
goes on from the newest checkpoint, to the same result as an unbroken run.
"""

from typing import Any

from rlaifv_jax import cli


def train(config: Any) -> None:
    """One run, from a config to trained weights."""
    # Imported here, so that --help and the data workers (which import this file) do not wait for JAX.
    from rlaifv_jax import parallel
    from rlaifv_jax.checkpoint import Checkpoints
    from rlaifv_jax.evaluate import Evaluator
    from rlaifv_jax.journal import Journal
    from rlaifv_jax.optim import make_optim, optimizer
    from rlaifv_jax.reference import obtain
    from rlaifv_jax.session import session
    from rlaifv_jax.starting_model import StartingModel
    from rlaifv_jax.state import abstract_state, compile_step, fresh_state
    from rlaifv_jax.weights import weights_of

    # ---------------------------------------------------------------- model, data, devices: opened and checked
    with session(config) as (run, stop):  # stop: knows whether SIGTERM or Ctrl-C asks for an end
        plan = run.plan
        optim = make_optim(config, plan.steps)
        transform = optimizer(optim)
        abstract = abstract_state(run, transform)  # shape, dtype and place of every array of the state

        # ---------------------------------------------------------------- an earlier part of this run, if there is one
        checkpoints = Checkpoints(run.output_dir, config, run.data.train.index.data_fingerprint, run.mesh)
        resumed = checkpoints.latest()
        model = StartingModel(run, name=checkpoints.model_name(resumed))

        # ---------------------------------------------------------------- log-probs of the model we start from
        references = obtain(run, model, stop) if run.step.objective.needs_reference else (None, None)

        # ---------------------------------------------------------------- the state, the step, the batches
        weights = weights_of(run)
        if resumed is None:
            start, state = 0, fresh_state(*model.take(), transform, abstract)
        else:
            start, state = checkpoints.restore(abstract, model)
            if plan.saves(start):
                weights.mend(start, state)
        step = compile_step(run, transform, abstract, config.train.accumulate)
        batches = run.training_batches(start, references[0])
        evaluator = Evaluator(run, references[1], abstract) if run.data.held_out else None
        journal = Journal(run, optim, start, stop)

        # ---------------------------------------------------------------- training
        with stop.between_steps(run.mesh):
            done, stopping = start, False
            if evaluator and start and plan.evaluates(start) and journal.lacks_evaluation(start):
                journal.record_evaluation(start, evaluator.metrics(state, stop))
                stopping = stop.agreed()
            for number, batch in () if stopping else journal.watch(batches):
                state, metrics = step(state, parallel.put_rows(batch, run.mesh, leading=1))
                done = number + 1
                journal.record(done, metrics)
                checkpoints.check()
                stopping = stop.agreed()
                if evaluator and plan.evaluates(done) and not stopping:
                    with journal.pause("evaluation"):
                        journal.record_evaluation(done, evaluator.metrics(state, stop))
                    stopping = stop.agreed()
                if plan.saves(done) or stopping:
                    with journal.pause("checkpoint"):
                        if plan.saves(done) and not stopping:
                            weights.save(done, state)
                        checkpoints.save(done, state, model.name)
                if stopping:
                    break

            # ------------------------------------------------------------ everything on disk
            weights.close()
            checkpoints.close()
            journal.close()
        if stopping:
            raise stop.end(f"{done} of {plan.steps} steps are done and saved")
        if parallel.is_main():
            cli.say(f"trained {plan.steps} steps; the model is {weights.directory(max(start, plan.steps))}")


def main() -> None:
    cli.config_command(train, __doc__ or "")


if __name__ == "__main__":
    main()
