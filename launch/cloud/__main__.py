"""Run on rented hardware: TPU VMs, pod slices, GKE, or a machine with GPUs.

    python -m launch.cloud watch --config=configs/launch_llava15.py:v5e-16 \\
        --config.zone=us-west4-a --config.bucket=gs://my-bucket/runs

    create     ask for the machines; nothing to do where they are there
    setup      copy this checkout to every worker and install it; nothing to do where that was done
    run        start the command on every worker, where it goes on without this connection
    watch      all of these as needed, and again after every preemption, until the command has ended
    status     how the machines and every worker are doing
    logs       the end of the log of worker 0 (or --worker=N, all)
    ssh        --command="…" on every worker (or --worker=N)
    stop       end the command as a preemption would, with a checkpoint; the machines stay
    delete     give the machines back; nothing to do where there are none
    manifest   print a JobSet for GKE (place='gke'); pipe it to `kubectl apply -f -`

--dry-run prints the exact commands instead of running them, quoted so that they can be pasted; it writes nothing but
the archive that they copy. Exit status 0: done. 1: `watch` has given up. 2: something has to be mended.

Results are in BUCKET/NAME, where the command goes on from its newest checkpoint, on whatever machines. docs/cloud.md
says more.
"""

import sys
from typing import Any

from rlaifv_jax import cli

VERBS = ("create", "setup", "run", "watch", "status", "logs", "ssh", "stop", "delete", "manifest")


def launch(verb: str, config: Any) -> None:
    """One verb."""
    from absl import flags

    from launch.cloud import jobset, stage, verbs
    from launch.cloud.places import place
    from launch.cloud.rehearsal import Rehearsal
    from launch.cloud.settings import read
    from launch.cloud.shell import Shell
    from rlaifv_jax.errors import UserError

    values = flags.FLAGS
    settings = read(config)
    if (verb == "manifest") != (settings.place == "gke"):
        raise UserError(
            f"{verb}: place is {settings.place!r}; 'gke' has `manifest` alone, and `manifest` is for 'gke' only"
        )
    if verb == "ssh" and not values.command:
        raise UserError("ssh: what to run? Give --command=…")
    if verb == "manifest":
        print(jobset.manifest(settings), end="")
        return

    where = place(settings)
    copies = verb in ("setup", "watch")
    ready = stage.make(settings, write_secrets=copies and not values.dry_run) if copies or verb == "run" else None
    runner = Rehearsal(where, verb not in ("create", "watch"), ready) if values.dry_run else Shell()
    try:
        status = verbs.act(verb, verbs.Scene(runner, where, ready, values.command, values.worker))
    finally:
        if copies and ready and ready.secrets and not values.dry_run:
            ready.secrets.unlink(missing_ok=True)
    if status:
        sys.exit(status)


def _define_flags() -> None:
    from absl import flags

    flags.DEFINE_bool("dry_run", False, "print the commands instead of running them")
    flags.DEFINE_string("command", "", "what `ssh` runs")
    flags.DEFINE_string("worker", "", "number of a worker, or all")


def main() -> None:
    cli.config_command(
        launch,
        __doc__ or "",
        define_flags=_define_flags,
        base="launch_base.py",
        stages=VERBS,
        example="configs/launch_llava15.py:v5e-16",
    )


if __name__ == "__main__":
    main()
