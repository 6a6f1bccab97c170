"""Compile the steps of a run for a slice that is not there, and say what they would take on one of its chips.

    python -m launch.compile --config=configs/llava15.py --topology=v5e:2x4,v5p:2x2x1
    python -m launch.compile --config=configs/llava15_large.py --topology=v5e:4x4 --rows=4 --json
    python -m launch.compile --config=configs/llava15.py --topology=v5e:4x4 --sweep

Runs on any Linux machine: the compiler is the real one (libtpu; for GPUs JAX's CUDA plugin), the chips are not
needed, and neither are weights or data. Sizes come from model.path; lengths are drawn like those of the published
pairs, and rows hold every step of four epochs of 5,342 of them.

    --topology=NAME,…   v4:2x2x2, v5e:4x4, v5p:2x2x4, v6e:2x4, …, h100:1x1x8
    --slices=N          that many slices, joined by the data-centre network (mesh.data cuts across them)
    --rows=N            rows of one micro-step for each chip that has rows of its own (with mesh.tensor=2 for each
                        two chips), as full of pairs as the planner makes them; default: train.batch_pairs pairs
    --steps=train,logprob    which steps; default both. prefill and decode are those of generation, score is that of
                        labelling: a picture a row, 100 claims about it
    --sweep             find the largest --rows that fits
    --json              one JSON object a line on standard output

Of generation (these are the defaults): --samples=10 answers to a prompt, --branches=5 of them written at once, up to
--new_tokens=512, --answer=100 on average, --cache=bfloat16 or int8. There --rows are prompts worked on at once, by
default as many as the engine would take. Weights and heads are spread over all chips, or --config.mesh.tensor of them;
--topology is that of one host, since each runs an engine of its own.

Peak memory is the compiler's own figure. Operations are counted in the program that is compiled, recomputation
included; bytes are those that one chip receives. The MFU bound assumes that everything runs at its peak.
"""

import json
import math
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

from rlaifv_jax import cli

STEPS = ("train", "logprob", "prefill", "decode", "score")


def compile_all(config: Any) -> None:
    """Every step on every topology that the command line names; exit status 1 if one does not fit."""
    from absl import flags

    from rlaifv_jax.config_values import check_computation
    from rlaifv_jax.errors import UserError

    values = flags.FLAGS
    check_computation(config)
    names = [name for name in values.topology.split(",") if name]
    if not names:
        raise UserError("which slice? Give --topology=v5e:4x4 or another; see --help")
    steps = values.steps.split(",")
    if unknown := [step for step in steps if step not in STEPS]:
        raise UserError(f"--steps: {unknown[0]!r} is not known; choose from {', '.join(STEPS)}")
    if values.rows < 0 or values.slices < 1:
        raise UserError("--rows must not be negative and --slices at least 1")
    if min(values.samples, values.branches, values.new_tokens, values.answer) < 1:
        raise UserError("--samples, --branches, --new_tokens and --answer must be at least 1")
    if values.sweep and values.rows:
        raise UserError("--sweep looks for the number of rows; leave out --rows")
    fits = True
    for name, step in product(names, steps):
        attempt = partial(_attempt, config, name, step)
        if values.sweep:
            most = most_rows(attempt, _guess(config, name, step))
            cli.say(f"{name}: {step} step fits with {most} {_unit(step)} of its own")
            fits &= most > 0
        else:
            fits &= attempt(values.rows)
    if not fits:
        sys.exit(1)


def _unit(step: str) -> str:
    return (
        "prompts for each chip that has some" if step in ("prefill", "decode") else "rows for each chip that has rows"
    )


def most_rows(fits: Callable[[int], bool], guess: int = 1) -> int:
    """The greatest number of rows that fits, 0 if not even one does: in growing steps from a guess, then by halves."""
    fitting, failing, tried, step = 0, math.inf, guess, 1
    while failing - fitting > 1:
        if fits(tried):
            fitting = tried
        else:
            failing = tried
        if math.isinf(failing):
            tried = fitting + step
        else:
            tried = max(int(failing) - step, 1) if fitting == 0 else (fitting + int(failing)) // 2
        step *= 2
    return fitting


def _guess(config: Any, name: str, step: str) -> int:
    """Where to look first: how many prompts there is memory for beside the weights; one row of training."""
    from launch import chips, generation, topologies

    if step not in generation.STEPS:
        return 1
    return generation.prompts_that_fit(
        config, topologies.devices(name, 1), chips.find(topologies.check(name)), _asked()
    )


def _attempt(config: Any, name: str, step: str, rows: int) -> bool:
    """Compile, print, and say whether it fits."""
    from absl import flags

    from launch.report import lines

    found = measure(config, name, flags.FLAGS.slices, rows, step)
    print(json.dumps(found) if flags.FLAGS.json else "\n".join(lines(found)), flush=True)
    return bool(found["fits"])


def measure(config: Any, name: str, slices: int, rows: int, step: str) -> dict[str, Any]:
    """Compile one step for one topology; the object that --json prints. `fits` is False when memory runs out."""
    import jax

    from launch import chips, generation, jobs, labelling, report, topologies
    from launch.attempt import attempt
    from rlaifv_jax import parallel
    from rlaifv_jax.errors import UserError
    from rlaifv_jax.optim import make_optim, optimizer
    from rlaifv_jax.state import abstract_state, compile_for, trace_logprobs, trace_step

    chip = chips.find(topologies.check(name))
    devices = topologies.devices(name, slices)
    if step in (*generation.STEPS, "score"):
        if slices > 1:
            raise UserError("--slices: this needs the chips of one host only; others work by themselves")
        if step == "score":
            return labelling.measure(config, name, devices, chip, rows)
        return generation.measure(config, name, devices, chip, _asked(), rows, step)
    mesh = parallel.make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor, devices)
    planned = jobs.make_job(config, mesh, rows)
    job = planned.job
    transform = optimizer(make_optim(config, steps=1000))
    state = abstract_state(job, transform)  # before set_mesh: it runs small operations, which these chips cannot
    accumulate = config.train.accumulate if step == "train" else 1
    found: dict[str, Any] = {
        "topology": name if slices == 1 else f"{slices} x {name}",
        "step": step,
        "chips": devices.size,
        "mesh": " x ".join(str(size) for size in mesh.shape.values()),
        "rows": job.micro_rows * accumulate,
        "row_length": job.shape.row_length,
        "pairs": planned.pairs if step == "train" else planned.pairs // config.train.accumulate,
    }
    with jax.set_mesh(mesh):
        if step == "train":
            traced = trace_step(job, transform, state, accumulate)
        else:
            traced = trace_logprobs(job, state.params, state.frozen)
        compiled, outcome = attempt(lambda: compile_for(mesh, traced), chip, jobs.memory_hints(config))
    found |= outcome
    if compiled is None:
        return found
    parts = {
        "weights": (state.params, state.frozen),
        "optimizer": state.optimizer if step == "train" else (),
        "batch": job.abstract_batch(accumulate),
    }
    held = report.memory(compiled, chip, parts)
    share = 1 / devices.size
    model = jobs.model_flops(planned, trained=step == "train") * share
    return found | report.analyse(compiled, chip, held, model, jobs.executed_flops(planned, traced.jaxpr) * share)


def _asked() -> Any:
    from absl import flags

    from launch.generation import Asked

    values = flags.FLAGS
    return Asked(values.samples, min(values.branches, values.samples), values.new_tokens, values.answer, values.cache)


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_string("topology", "", "slices to compile for, separated by commas")
    flags.DEFINE_integer("slices", 1, "number of slices")
    flags.DEFINE_integer("rows", 0, "rows of a micro-step for each chip that has rows of its own")
    flags.DEFINE_string("steps", "train,logprob", "which steps")
    flags.DEFINE_integer("samples", 10, "answers to a prompt")
    flags.DEFINE_integer("branches", 5, "of them that are written at once")
    flags.DEFINE_integer("new_tokens", 512, "most of an answer")
    flags.DEFINE_integer("answer", 100, "tokens of an answer on average")
    flags.DEFINE_enum("cache", "bfloat16", ["bfloat16", "int8"], "dtype of keys and values")
    flags.DEFINE_bool("sweep", False, "find the largest --rows that fits")
    flags.DEFINE_bool("json", False, "one JSON object a line")


def main() -> None:
    cli.config_command(compile_all, __doc__ or "", define_flags=_define_flags)


if __name__ == "__main__":
    main()
