"""Runs `python -m MODULE …` many times without loading JAX and transformers anew: each in a fork of this process.

python tests/docs/forks.py      reads a JSON line for each job: {words, folder, log}; writes its exit status
"""

import json
import os
import runpy
import sys
import traceback

LOADED = (
    "jax",
    "flax.nnx",
    "optax",
    "orbax.checkpoint",
    "grain",
    "transformers",
    "datasets",
    "ml_collections.config_flags",
    "rlaifv_jax.prepare",
    "rlaifv_jax.sampling.load",
    "rlaifv_jax.state",
)


def run(words: list[str], folder: str, log: str) -> int:
    """Exit status of a module that is run in a process of its own."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        os.chdir(folder)
        file = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(file, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = [words[0], *words[1:]]
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    for module in LOADED:
        __import__(module)
    for line in sys.stdin:
        job = json.loads(line)
        print(run(**job), flush=True)


if __name__ == "__main__":
    main()
