"""A launcher config, checked and frozen. What cannot work is refused before anything is rented."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.cloud.accelerators import Accelerator, find
from rlaifv_jax.errors import UserError, shortened

PLACES = ("queued", "tpu_vm", "gke", "host")
RUNS = ("queued", "tpu_vm", "host")  # where the verbs that act on machines work
ROOT = Path(__file__).parent.parent.parent

NAME = r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?"  # what Google and Kubernetes take for a name
VARIABLE = r"[A-Z_][A-Z0-9_]*|(http|https|ftp|no|all)_proxy"  # small letters are those of the scripts in worker/
KEY = r"[A-Za-z_]\w*(\.\w+)*"
FORMS = {
    "name": (NAME, "small letters, digits and -, at most 40"),
    "zone": (r"[a-z]+-[a-z]+\d+-[a-z][a-z0-9]*", "e.g. us-west4-a"),
    "project": (r"([a-z0-9.-]+:)?[a-z][-a-z0-9]{4,28}[a-z0-9]", "a project id"),
    "runtime": (r"[a-z0-9][-a-z0-9.]*", "a TPU software version"),
    "host": (r"(\w[-\w.]*@)?\w[-\w.]*", "user@machine"),
    "namespace": (NAME, "a Kubernetes namespace"),
    "bucket": (r"gs://[a-z0-9][-a-z0-9._]+[a-z0-9](/.+)?", "gs://bucket/folder"),
    "image": (r"[A-Za-z0-9][\w./:@-]*", "registry/image:tag"),
    "python": (r"3\.\d+(\.\d+)?", "e.g. 3.12"),
    "module": (r"[A-Za-z_]\w*(\.\w+)*", "a Python module"),
    "service_account": (r"[\w.-]+(@[\w.-]+)?", "an account"),
}


@dataclass(frozen=True)
class Launch:
    """One launcher config. command: after `python`, one word each. environment: (name, value). Times in seconds."""

    name: str
    place: str
    accelerator: Accelerator | None
    runtime: str
    spot: bool
    project: str
    zone: str
    network: str
    subnetwork: str
    internal_ips: bool
    service_account: str
    create_flags: tuple[str, ...]
    host: str
    namespace: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    secrets: tuple[str, ...]
    image: str
    python: str
    staging: Path
    restarts: int
    first_pause: int
    most_pause: int
    steady: int
    grace: int
    watch_every: float
    watch_most: float
    watch_attempts: int
    watch_delete: bool

    @property
    def hosts(self) -> int:
        return self.accelerator.hosts if self.accelerator else 1


def read(config: Any) -> Launch:
    """Raises `UserError` for what is missing or has the wrong form."""
    if config.place not in PLACES:
        raise UserError(f"place is {config.place!r}; it can be {', '.join(map(repr, PLACES))}")
    needed = {"queued": ("zone",), "tpu_vm": ("zone",), "gke": ("image",), "host": ("host",)}[config.place]
    for key, (form, meaning) in FORMS.items():
        value = config[key]
        if not value and key in ("name", "module", *needed):
            raise UserError(f"{key} is empty: give --config.{key}=… ({meaning})")
        if value and not re.fullmatch(form, value):
            raise UserError(f"{key} is {shortened(value)!r}, not of the form it must have: {meaning}")
    accelerator = None
    if config.place != "host":
        if not config.accelerator:
            raise UserError("which chips? Give --config.accelerator=v5e-16 or another")
        accelerator = find(config.accelerator)
    for key in ("restarts", "grace"):
        if config[key] < 0:
            raise UserError(f"{key} is {config[key]}; it must not be negative")
    if min(config.pause.first, config.pause.most, config.watch.every, config.watch.most, config.watch.attempts) <= 0:
        raise UserError("pause.first, pause.most, watch.every, watch.most and watch.attempts must be positive")
    return Launch(
        name=config.name,
        place=config.place,
        accelerator=accelerator,
        runtime=config.runtime or (accelerator.runtime if accelerator else ""),
        spot=config.spot,
        project=config.project,
        zone=config.zone,
        network=_word("network.network", config.network.network),
        subnetwork=_word("network.subnetwork", config.network.subnetwork),
        internal_ips=config.network.internal_ips,
        service_account=config.service_account,
        create_flags=_words("create_flags", config.create_flags),
        host=config.host,
        namespace=config.namespace,
        command=_command(config),
        environment=_environment(config.environment),
        secrets=_secrets(config.secrets),
        image=config.image,
        python=config.python,
        staging=Path(config.staging),
        restarts=config.restarts,
        first_pause=config.pause.first,
        most_pause=config.pause.most,
        steady=config.pause.steady,
        grace=config.grace,
        watch_every=config.watch.every,
        watch_most=config.watch.most,
        watch_attempts=config.watch.attempts,
        watch_delete=config.watch.delete,
    )


def _command(config: Any) -> tuple[str, ...]:
    """`-m module` with all that follows it."""
    overrides = [_pair("overrides", pair, KEY) for pair in _words("overrides", config.overrides)]
    words = ["-m", config.module]
    if config.experiment:
        file = config.experiment.split(":", 1)[0]
        inside = (ROOT / file).resolve()
        if not inside.is_relative_to(ROOT / "configs") or not inside.is_file():
            raise UserError(
                f"experiment: {shortened(file)} is no file in {ROOT}/configs, which is what workers get; put it there"
            )
        words.append(f"--config={_word('experiment', config.experiment)}")
        if config.bucket and "output_dir" not in dict(overrides):
            overrides.append(("output_dir", f"{_word('bucket', config.bucket).rstrip('/')}/{config.name}"))
        if not re.match(r"/|\w+://", dict(overrides).get("output_dir", "")):
            raise UserError(
                "bucket is empty: give --config.bucket=gs://…, or overrides with an output_dir that is a whole path; "
                "the folder that the command runs in goes with the machine"
            )
    elif overrides:
        raise UserError("overrides belong to an experiment: give --config.experiment=configs/…")
    words += [f"--config.{key}={value}" for key, value in overrides]
    return (*words, *_words("arguments", config.arguments))


def _environment(pairs: Iterable[str]) -> tuple[tuple[str, str], ...]:
    return tuple(_pair("environment", pair, VARIABLE) for pair in _words("environment", pairs))


def _secrets(names: Iterable[str]) -> tuple[str, ...]:
    for name in _words("secrets", names):
        if not re.fullmatch(VARIABLE, name):
            raise UserError("secrets: give names of environment variables, not their values")
    return tuple(names)


def secret_values(launch: Launch) -> dict[str, str]:
    """The values of the secrets, from this environment.

    Raises:
      UserError: one is not set.
    """
    if missing := [name for name in launch.secrets if name not in os.environ]:
        raise UserError(f"secrets: {', '.join(missing)} is not set here; export it, or leave it out of the config")
    return {name: os.environ[name] for name in launch.secrets}


def _pair(key: str, text: str, form: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not re.fullmatch(form, name):
        raise UserError(f"{key}: {shortened(text)!r} is not of the form NAME=VALUE")
    return name, value


def _word(key: str, text: Any) -> str:
    if not isinstance(text, str) or "\0" in text:
        raise UserError(f"{key}: {shortened(repr(text))} must be text without zero bytes")
    return text


def _words(key: str, texts: Iterable[Any]) -> tuple[str, ...]:
    if isinstance(texts, str):
        raise UserError(f"{key} is one text; give several: ({shortened(texts)!r},)")
    return tuple(_word(key, text) for text in texts)
