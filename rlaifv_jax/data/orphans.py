"""Worker processes that live as long as the process they work for, and no longer."""

import multiprocessing
import os
import signal
import threading


def live_with_parent() -> None:
    """Called where a worker starts: it ends as soon as its parent has ended, however it did, and not before.

    A signal for the whole group of processes (Ctrl-C, many schedulers' SIGTERM) is for the parent, which may need its
    workers until the step at which it ends.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
