"""--dry-run: the commands of a verb on a cloud where everything works, printed and not run.

The verbs ask the rehearsal what they would ask the cloud, so what is printed is what would be run: for `create` and
`watch` from nothing, for all others on machines that are there.
"""

import json
import shlex
from collections.abc import Sequence

from launch.cloud.places import Place, Queued
from launch.cloud.shell import CommandFailed
from launch.cloud.stage import Stage
from launch.cloud.workers import script


class Rehearsal:
    """A `Runner` that prints each command, quoted so that it can be pasted, and answers for the cloud.

    there: whether the machines exist to begin with. stage: what the workers would get, if anything.
    """

    def __init__(self, place: Place, there: bool, stage: Stage | None):
        self.place, self.there, self.digest = place, there, stage.digest if stage else "-"
        self.state = "absent"  # of the workers

    def ask(self, words: Sequence[str], seconds: float = 0) -> str:
        print(shlex.join(words), flush=True)
        if words == self.place.describe():
            if not self.there:
                raise CommandFailed(words, 1, "ERROR: NOT_FOUND")
            return json.dumps({"state": {"state": "ACTIVE"}} if isinstance(self.place, Queued) else {"state": "READY"})
        lines = [f"launch worker-{number} {self.state} {self.digest}" for number in range(self.place.launch.hosts)]
        return "\n".join(lines)

    def do(self, words: Sequence[str], seconds: float = 0) -> None:
        print(shlex.join(words), flush=True)
        self.there = True
        if any(script(self.place.launch, "start") in word for word in words):
            self.state = "done"

    def wait(self, seconds: float) -> None:
        pass
