"""Worker processes that do not outlive the process they work for."""

import functools
import multiprocessing
import os
import threading


@functools.cache
def leave_with_parent() -> None:
    """In a worker, end as soon as the parent has ended, however it did; elsewhere do nothing."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
