"""A directory that is whole or absent: written beside its place, then put there."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def in_place_of(destination: Path) -> Iterator[Path]:
    """An empty directory to write to, beside `destination`, whose place it takes at the end of the block.

    What was there stays as it is until then, so the disk needs room for both. What a kill leaves behind, in hidden
    directories beside `destination`, the next call clears away.
    """
    destination = destination.resolve()  # what a link points to, not the link
    partial, old = (destination.parent / f".{destination.name}.{what}" for what in ("partial", "old"))
    _put_back(old, destination)
    for left in (partial, old):
        if left.exists():
            shutil.rmtree(left)
    partial.mkdir(parents=True)
    try:
        yield partial
        if destination.exists():
            os.replace(destination, old)
        os.replace(partial, destination)
    except BaseException:
        _put_back(old, destination)
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _put_back(old: Path, destination: Path) -> None:
    """After an end between the two renames."""
    if old.exists() and not destination.exists():
        os.replace(old, destination)
