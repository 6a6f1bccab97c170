"""Errors of threads that write checkpoints: raised where they matter, and not told three times before.

Orbax logs a failed write with its traceback in the thread that wrote, in the one that waited and in the one that asks,
Python prints those that end a thread, asyncio those of further arrays, of which one has been raised already, and then
the error is raised. Only what is raised is of use.
"""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def _is_news(record: logging.LogRecord) -> bool:
    return not (record.exc_info and "orbax" in record.pathname)


def _is_asked_for(record: logging.LogRecord) -> bool:
    return "never retrieved" not in record.getMessage()


@contextmanager
def raised_only() -> Iterator[None]:
    """Keep the log and the end of Orbax's threads quiet about errors."""
    log, in_threads, unraisable = logging.getLogger("absl"), threading.excepthook, sys.unraisablehook

    def ended(args: Any) -> None:
        if not type(args.thread).__module__.startswith("orbax") and "orbax" not in str(
            args.thread and args.thread.name
        ):
            in_threads(args)

    def ignored(args: Any) -> None:  # TensorStore, finding nobody who waits for its answer any more
        if "Event loop is closed" not in str(args.exc_value):
            unraisable(args)

    log.addFilter(_is_news)
    logging.getLogger("asyncio").addFilter(_is_asked_for)
    threading.excepthook, sys.unraisablehook = ended, ignored
    yield
    # Not where it ends by an error: the process ends, and what is still being written breaks off on its way.
    threading.excepthook, sys.unraisablehook = in_threads, unraisable
    log.removeFilter(_is_news)
    logging.getLogger("asyncio").removeFilter(_is_asked_for)
