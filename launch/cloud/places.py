"""Where a run lives, as the commands that create, describe and delete it, copy to it and run something on it.

Values of the config that reach a shell at the other end are the name and a digest, which cannot hold anything special;
all others travel in the archive (launch.cloud.stage).
"""

import enum
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from launch.cloud.settings import Launch
from rlaifv_jax.errors import UserError

SCOPE = "https://www.googleapis.com/auth/cloud-platform"  # lets workers reach the bucket, as far as their account may


class Phase(enum.Enum):
    """What to do about it: nothing is there, wait, go on, wait until it is gone, delete it, ask a person."""

    ABSENT, COMING, READY, GOING, LOST, STOPPED = range(6)


NODE = {
    Phase.COMING: ("CREATING", "STARTING", "RESTARTING", "REIMAGING", "REPAIRING", "UNHIDING"),
    Phase.READY: ("READY",),
    Phase.GOING: ("DELETING",),
    Phase.LOST: ("PREEMPTED", "TERMINATED", "UNKNOWN"),
    Phase.STOPPED: ("STOPPED", "STOPPING", "HIDING", "HIDDEN"),
}
REQUEST = {
    Phase.COMING: ("CREATING", "ACCEPTED", "WAITING_FOR_RESOURCES", "PROVISIONING"),
    Phase.READY: ("ACTIVE",),
    Phase.GOING: ("DELETING", "SUSPENDING"),
    Phase.LOST: ("SUSPENDED", "FAILED"),
}


@dataclass(frozen=True)
class Standing:
    """word: the state as the cloud says it. why: its explanation. type: accelerator type, where it is said."""

    phase: Phase
    word: str
    why: str = ""
    type: str = ""


class Place(Protocol):
    """Commands as their words."""

    @property
    def launch(self) -> Launch: ...

    def describe(self) -> list[str] | None:
        """None: there is nothing to ask, it is always there."""

    def standing(self, answer: str) -> Standing:
        """What the answer to `describe` says."""

    def create(self) -> list[str]: ...

    def delete(self) -> list[str]: ...

    def copy(self, files: Sequence[Path]) -> list[str]:
        """Files to the home directory of every worker."""

    def remote(self, command: str, worker: str) -> list[str]:
        """A shell command on the worker of that number, or on `all`."""


@dataclass(frozen=True)
class TpuVm:
    """A TPU VM, or a slice of several, there at once or not at all."""

    launch: Launch

    def _gcloud(self, group: str, verb: str, *words: str) -> list[str]:
        project = [f"--project={self.launch.project}"] if self.launch.project else []
        return ["gcloud", "compute", "tpus", group, verb, *words, f"--zone={self.launch.zone}", *project, "--quiet"]

    def _options(self, version: str) -> list[str]:
        launch = self.launch
        assert launch.accelerator
        words = [f"--accelerator-type={launch.accelerator.type}", f"--{version}={launch.runtime}", f"--scopes={SCOPE}"]
        words += ["--spot"] if launch.spot else []
        words += [f"--network={launch.network}"] if launch.network else []
        words += [f"--subnetwork={launch.subnetwork}"] if launch.subnetwork else []
        words += ["--internal-ips"] if launch.internal_ips else []
        words += [f"--service-account={launch.service_account}"] if launch.service_account else []
        return [*words, *launch.create_flags]

    def describe(self) -> list[str] | None:
        return self._gcloud("tpu-vm", "describe", self.launch.name, "--format=json")

    def standing(self, answer: str) -> Standing:
        node = _json(answer)
        word = str(node.get("state", "STATE_UNSPECIFIED"))
        return Standing(
            _phase(NODE, word), word, str(node.get("healthDescription", "")), str(node.get("acceleratorType", ""))
        )

    def create(self) -> list[str]:
        return self._gcloud("tpu-vm", "create", self.launch.name, *self._options("version"))

    def delete(self) -> list[str]:
        return self._gcloud("tpu-vm", "delete", self.launch.name)

    def copy(self, files: Sequence[Path]) -> list[str]:
        names = [str(file) for file in files]
        return self._gcloud("tpu-vm", "scp", *names, f"{self.launch.name}:", "--worker=all", *self._inside())

    def remote(self, command: str, worker: str) -> list[str]:
        words = [f"--worker={worker}", f"--command={command}"]
        return self._gcloud("tpu-vm", "ssh", self.launch.name, *words, *self._inside())

    def _inside(self) -> list[str]:
        return ["--internal-ip"] if self.launch.internal_ips else []


@dataclass(frozen=True)
class Queued(TpuVm):
    """A slice that is asked for with a queued resource; request and slice have the same name."""

    def describe(self) -> list[str] | None:
        return self._gcloud("queued-resources", "describe", self.launch.name, "--format=json")

    def standing(self, answer: str) -> Standing:
        request = _json(answer)
        state = request.get("state") or {}
        word = str(state.get("state", "STATE_UNSPECIFIED"))
        nodes = (request.get("tpu") or {}).get("nodeSpec") or [{}]
        error = (state.get("failedData") or {}).get("error") or {}
        kind = (nodes[0].get("node") or {}).get("acceleratorType", "")
        return Standing(_phase(REQUEST, word), word, str(error.get("message", "")), str(kind))

    def create(self) -> list[str]:
        name = self.launch.name
        return self._gcloud("queued-resources", "create", name, f"--node-id={name}", *self._options("runtime-version"))

    def delete(self) -> list[str]:
        return self._gcloud("queued-resources", "delete", self.launch.name, "--force")


@dataclass(frozen=True)
class Host:
    """A machine with GPUs that is there anyway."""

    launch: Launch

    def describe(self) -> list[str] | None:
        return None

    def standing(self, answer: str) -> Standing:
        return Standing(Phase.READY, "yours")

    def create(self) -> list[str]:
        raise UserError(f"place='host': {self.launch.host} is there already; go on with setup")

    def delete(self) -> list[str]:
        """What the run has left on it, results excepted."""
        name = self.launch.name
        stop = f"test ! -f rlaifv/{name}/worker/stop.sh || bash rlaifv/{name}/worker/stop.sh"
        return self.remote(f"{{ {stop}; }} && rm -rf rlaifv/{name} {name}.tar.gz {name}.secrets", "0")

    def copy(self, files: Sequence[Path]) -> list[str]:
        return ["scp", "-o", "BatchMode=yes", *(str(file.absolute()) for file in files), f"{self.launch.host}:"]

    def remote(self, command: str, worker: str) -> list[str]:
        keep_alive = ["-o", "ServerAliveInterval=30"]
        return ["ssh", "-o", "BatchMode=yes", *keep_alive, self.launch.host, command]


def place(launch: Launch) -> Place:
    kinds: dict[str, type[TpuVm] | type[Host]] = {"tpu_vm": TpuVm, "queued": Queued, "host": Host}
    return kinds[launch.place](launch)


def _phase(table: dict[Phase, tuple[str, ...]], word: str) -> Phase:
    return next((phase for phase, words in table.items() if word in words), Phase.COMING)  # a state of a later API


def _json(answer: str) -> dict[str, Any]:
    try:
        found = json.loads(answer)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"gcloud describe printed {answer[:60]!r} where a JSON object is expected; update gcloud")
    return found


def is_absent(said: str) -> bool:
    """Whether a describe or delete failed because there is no such thing."""
    return re.search(r"NOT_FOUND|was not found", said) is not None
