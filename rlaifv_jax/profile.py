"""A trace of a few steps for TensorBoard's profile page (xprof): every process writes its own."""

from pathlib import Path

import jax
from etils import epath

from rlaifv_jax.places import is_remote, place, put, scratch


def steps_of(text: str) -> range:
    """'10:13' → steps 10, 11, 12 and 13, counted from 1 as in metrics.jsonl; '' → none.

    Raises:
      ValueError: it says something else.
    """
    if not text:
        return range(0)
    first, last = map(int, text.split(":"))
    if not 1 <= first <= last:
        raise ValueError("from the first on, and not backwards")
    return range(first, last + 1)


class Profile:
    """Traces the wanted steps into `directory`."""

    def __init__(self, wanted: range, directory: epath.Path):
        self.wanted, self.directory = wanted, directory
        self.writing: Path | None = None

    def begin(self, step: int) -> None:
        """Call before a step is given to the devices."""
        if step not in self.wanted or self.writing:
            return
        # The profiler writes to local disks only.
        self.writing = scratch("profile") if is_remote(self.directory) else Path(self.directory)
        jax.profiler.start_trace(self.writing)

    def ends_before(self, step: int) -> bool:
        """Whether the last wanted step is behind: wait for it, then `end`."""
        return self.writing is not None and step not in self.wanted

    def end(self) -> None:
        if not self.writing:
            return
        jax.profiler.stop_trace()
        if self.writing != Path(self.directory):
            for file in (path for path in self.writing.rglob("*") if path.is_file()):
                target = place(self.directory) / file.relative_to(self.writing).as_posix()
                put(file, target)
        self.writing = None
