"""A cloud of directories for tests: see stub_gcloud.py."""

import contextlib
import json
import os
import shutil
import signal
import stat
import sys
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from configs import launch_base
from launch.cloud import stage, verbs
from launch.cloud.places import Place, place
from launch.cloud.settings import Launch, read
from launch.cloud.shell import Shell

HERE = Path(__file__).parent


class Cloud:
    """hosts: workers. command: what runs in place of python there, as bash."""

    def __init__(self, folder: Path, monkeypatch: Any, hosts: int = 2, command: str = "exit 0"):
        self.folder, self.bin = folder / "stub", folder / "bin"
        self.folder.mkdir(exist_ok=True)
        self.bin.mkdir(exist_ok=True)
        for name in ("gcloud", "ssh", "scp"):
            self.install(name, f"#!{sys.executable}\n{(HERE / 'stub_gcloud.py').read_text()}")
        self.install("uv", (HERE / "stub_uv.sh").read_text())
        self.install("sudo", "#!/bin/sh\nexit 1\n")
        self.runs(command)
        monkeypatch.setenv("STUB", str(self.folder))
        monkeypatch.setenv("STUB_HOSTS", str(hosts))
        monkeypatch.setenv("PATH", f"{self.bin}:{os.environ['PATH']}")
        monkeypatch.setattr(stage, "PACKAGES", ("configs",))  # the whole checkout takes a while to pack

    def install(self, name: str, text: str) -> None:
        file = self.bin / name
        file.write_text(text)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def runs(self, command: str) -> None:
        file = self.folder / "command"
        file.write_text(f"#!/usr/bin/env bash\n{command}\n")
        file.chmod(0o755)

    def plays(self, *states: str) -> None:
        (self.folder / "states").write_text("\n".join(states))

    def refuses(self, *complaints: str) -> None:
        (self.folder / "errors").write_text("\n".join(complaints))

    def calls(self) -> list[list[str]]:
        file = self.folder / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def forget(self) -> None:
        (self.folder / "calls").unlink(missing_ok=True)

    def verbs(self) -> list[str]:
        """The calls in short: 'create', 'ssh setup', …"""
        names = ("setup", "start", "status", "stop", "tail")
        short = []
        for words in self.calls():
            verb = words[4] if words[0] == "gcloud" else words[0]
            text = " ".join(words)
            short.append(verb if verb != "ssh" else f"ssh {next((n for n in names if n in text), 'other')}")
        return short

    def home(self, worker: int = 0) -> Path:
        return self.folder / "workers" / str(worker)

    def end(self) -> None:
        """No supervisor outlives a test."""
        for file in (self.folder / "workers").glob("*/rlaifv/*/pid"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(file.read_text()), signal.SIGKILL)
        shutil.rmtree(self.folder / "workers", ignore_errors=True)


def config(folder: Path, **settings: Any) -> ConfigDict:
    """A launcher config with short waits; keyword `watch__every` is watch.every."""
    base = launch_base.get_config()
    quick = {
        "name": "tiny",
        "accelerator": "v5e-16",
        "zone": "us-west4-a",
        "project": "my-project",
        "experiment": "configs/llava15.py",
        "bucket": "gs://bucket/runs",
        "staging": str(folder / "staging"),
        "pause__first": 1,
        "pause__most": 1,
        "grace": 10,
        "watch__every": 0.05,
        "watch__most": 0.1,
        "watch__attempts": 4,
    }
    base.update_from_flattened_dict({key.replace("__", "."): value for key, value in (quick | settings).items()})
    return base


def launch(folder: Path, **settings: Any) -> Launch:
    return read(config(folder, **settings))


def act(verb: str, of: Launch, runner: Any = None, command: str = "", worker: str = "") -> int:
    """A verb on the stub cloud, or in rehearsal."""
    made = stage.make(of, write_secrets=True)
    where: Place = place(of)
    return verbs.act(verb, verbs.Scene(runner or Shell(), where, made, command, worker))
