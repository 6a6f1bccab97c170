"""A file or directory that only one run writes at a time."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rlaifv_jax.errors import UserError
from rlaifv_jax.places import is_remote


@contextmanager
def only_run(directory: Path) -> Iterator[None]:
    """Make a directory and keep other runs from it. Processes of one job share it: the first of them locks it.
    In the cloud there are no locks: there nobody is kept out.

    Raises:
      UserError: another run has it, it cannot be made, or it is a file.
    """
    try:
        if directory.is_file():
            raise UserError(f"{directory} is a file; a stage writes a directory; choose another output_dir")
        directory.mkdir(parents=True, exist_ok=True)
        if is_remote(directory):
            yield
            return
        opened = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{directory} cannot be written ({error.strerror}); choose another place") from None
    try:
        lock(opened, directory)
        yield
    finally:
        os.close(opened)


def lock(opened: IO[Any] | int, owner: Path) -> None:
    """Lock an open file or directory until it is closed. owner: what it belongs to, for messages.

    Raises:
      UserError: another run has it.
    """
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return  # a disk without locks
        raise UserError(
            f"{owner}: another run is writing it. Hosts that share the work have to be joined: those of a "
            "TPU pod slice are, others by JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        ) from None
