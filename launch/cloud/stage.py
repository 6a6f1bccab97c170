"""What is copied to the workers: one archive with the code, the scripts that run there and what they are to do.

The archive is the same, byte for byte, for the same code and settings; its SHA-256 tells whether a worker has it.
Values of secrets are in a file of their own, readable by its owner alone.
"""

import gzip
import hashlib
import io
import os
import shlex
import tarfile
from dataclasses import dataclass
from pathlib import Path

from launch.cloud.settings import ROOT, Launch, secret_values
from rlaifv_jax.errors import UserError

PACKAGES = ("rlaifv_jax", "convert", "eval", "launch", "configs")
FILES = ("pyproject.toml", "README.md", "LICENSE")
UV = "uv>=0.8,<1"
WORKER = Path(__file__).parent / "worker"


@dataclass(frozen=True)
class Stage:
    """archive and secrets: local files (None without secrets). digest: of the archive, in hexadecimal."""

    archive: Path
    secrets: Path | None
    digest: str


def settings(launch: Launch) -> str:
    """settings.sh: bash that sets what the scripts in worker/ read. Every value is quoted."""
    variables = [*(name for name, _ in launch.environment), *launch.secrets]
    values: dict[str, str | int] = {
        "image": launch.image,
        "extra": "cuda" if launch.place == "host" else "tpu",
        "python": launch.python,
        "uv": UV,
        "restarts": launch.restarts,
        "first_pause": launch.first_pause,
        "most_pause": launch.most_pause,
        "steady": launch.steady,
        "grace": launch.grace,
    }
    lines = [
        "# shellcheck shell=bash disable=SC2034,SC2016,SC1003  # read elsewhere; nothing in quotes is to be expanded"
    ]
    lines += [f"{name}={shlex.quote(str(value))}" for name, value in values.items()]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in launch.environment]
    lines += [f"variables=({shlex.join(variables)})", f"command=({shlex.join(('python', *launch.command))})"]
    return "\n".join(lines) + "\n"


def make(launch: Launch, write_secrets: bool) -> Stage:
    """Write the archive, and the secrets unless only their place is asked for.

    Raises:
      UserError: a secret is not set, or this is no checkout.
    """
    if missing := [name for name in (*PACKAGES, *FILES) if not (ROOT / name).exists()]:
        raise UserError(f"{ROOT} is no checkout of this project ({missing[0]} is not there); start it from one")
    content = gzip.compress(_tar(launch), mtime=0)
    digest = hashlib.sha256(content).hexdigest()
    folder = launch.staging / launch.name / digest[:12]  # a watch keeps its own while the checkout changes
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"{launch.name}.tar.gz"
    archive.write_bytes(content)
    secrets = None
    if launch.secrets:
        secrets = folder / f"{launch.name}.secrets"
        if write_secrets:
            lines = [f"export {name}={shlex.quote(value)}" for name, value in secret_values(launch).items()]
            secrets.unlink(missing_ok=True)
            descriptor = os.open(secrets, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write("\n".join(lines) + "\n")
    return Stage(archive, secrets, digest)


def _tar(launch: Launch) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for script in sorted(WORKER.glob("*.sh")):
            _add(archive, f"worker/{script.name}", script.read_bytes())
        _add(archive, "settings.sh", settings(launch).encode())
        files = [ROOT / name for name in FILES]
        for package in PACKAGES:
            files += sorted(
                path for path in (ROOT / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts
            )
        for path in files:
            _add(archive, f"code/{path.relative_to(ROOT).as_posix()}", path.read_bytes())
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))
