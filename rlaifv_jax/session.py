"""What surrounds a run in its process: signals, the devices' mesh, and a directory that it alone writes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.experimental import multihost_utils
from jax.experimental.compilation_cache import compilation_cache

from rlaifv_jax import parallel
from rlaifv_jax.background_errors import raised_only
from rlaifv_jax.clock import first_start
from rlaifv_jax.errors import UserError
from rlaifv_jax.places import is_remote
from rlaifv_jax.prepare import Run, prepare
from rlaifv_jax.records.lock import lock
from rlaifv_jax.stopping import Stop, orderly_stop
from rlaifv_jax.watchdog import Watchdog


@contextmanager
def session(config: Any) -> Iterator[tuple[Run, Stop]]:
    """The run that a config describes, checked and opened, and what tells whether it is to end."""
    parallel.initialize()  # which listens to SIGTERM itself: the last to come is heard
    with orderly_stop() as stop:
        run = prepare(config)
        stop.watchdog = Watchdog(config.guard.hang_seconds, run.output_dir)
        with only_writer(run.output_dir), compile_cache(run), raised_only(), jax.set_mesh(run.mesh):
            if parallel.is_main():
                first_start(run.output_dir)
            yield run, stop


@contextmanager
def compile_cache(run: Run) -> Iterator[None]:
    """Keep what XLA compiles, so that a restart need not compile again. JAX writes from the first process alone; what
    a kill has torn is compiled anew."""
    wanted = run.config.compile_cache
    before = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if wanted:
        place = str(run.output_dir / "cache" / "xla") if wanted == "auto" else wanted
        jax.config.update("jax_compilation_cache_dir", place)
        compilation_cache.reset_cache()
    try:
        yield
    finally:
        if wanted:
            jax.config.update("jax_compilation_cache_dir", before)
            compilation_cache.reset_cache()


@contextmanager
def only_writer(directory: epath.Path) -> Iterator[None]:
    """Keep other runs from a directory that exists: the first process of a job locks it, the kernel frees it, whatever
    becomes of that process. Object stores have no locks: there nobody is kept out.

    Raises:
      UserError: in all processes, if another run has it.
    """
    opened, refused = None, None
    if parallel.is_main() and not is_remote(directory):
        opened = os.open(directory, os.O_RDONLY)
        try:
            lock(opened, directory)
        except UserError as error:
            refused = error
    try:
        if multihost_utils.broadcast_one_to_all(np.array(refused is not None)):
            raise refused or UserError(f"{directory}: another run is writing it")
        yield
    finally:
        if opened is not None:
            os.close(opened)
