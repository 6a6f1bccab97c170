"""Runs commands of other programs. Nothing here goes through a local shell: a command is its words."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import IO, Protocol

from rlaifv_jax.cli import say
from rlaifv_jax.errors import UserError

SAID = 400  # characters of a complaint that are passed on


class CommandFailed(UserError):
    """A command that did not exit 0. status: its exit status, or None if it did not end in time. said: its stderr."""

    def __init__(self, words: Sequence[str], status: int | None, said: str):
        self.status, self.said = status, said
        how = "gave no answer" if status is None else f"failed with status {status}"
        super().__init__(f"`{shlex.join(words[:6])}{' …' if words[6:] else ''}` {how}: {reason(said)}")


def reason(said: str) -> str:
    """What matters in the stderr of gcloud or ssh: from the last ERROR on, on one line."""
    text = said[said.rfind("ERROR:") :] if "ERROR:" in said else "\n".join(said.strip().splitlines()[-3:])
    text = " ".join(text.split()) or "it said nothing"
    return text if len(text) <= SAID else text[: SAID - 1] + "…"


class Runner(Protocol):
    """What runs commands, or rehearses that."""

    def ask(self, words: Sequence[str], seconds: float = 300) -> str:
        """The standard output of a command; nothing is shown.

        Raises:
          CommandFailed: it failed, or did not end within `seconds`.
        """

    def do(self, words: Sequence[str], seconds: float = 7200) -> None:
        """A command that changes something; what it prints goes to stderr as it comes. Raises like `ask`."""

    def wait(self, seconds: float) -> None:
        """Let time pass."""


class Shell:
    """Runs commands here."""

    def ask(self, words: Sequence[str], seconds: float = 300) -> str:
        return self._run(words, seconds, show=False)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def do(self, words: Sequence[str], seconds: float = 7200) -> None:
        say(f"$ {shlex.join(words)}")
        self._run(words, seconds, show=True)

    def _run(self, words: Sequence[str], seconds: float, show: bool) -> str:
        try:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
            )
        except FileNotFoundError:
            hint = " (the Google Cloud CLI: cloud.google.com/sdk)" if words[0] == "gcloud" else ""
            raise UserError(f"{words[0]} is not installed here{hint}, or not on PATH; install it") from None
        except OSError as error:
            raise UserError(f"{words[0]} cannot be run: {error}") from None
        said: list[str] = []
        printed: list[str] = []
        readers = [
            threading.Thread(target=_copy, args=(stream, kept, show), daemon=True)
            for stream, kept in ((process.stdout, printed), (process.stderr, said))
        ]
        for reader in readers:
            reader.start()
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for reader in readers:
            reader.join(5)  # what the command has left behind may hold its pipes open
        if status != 0:
            raise CommandFailed(words, status, "".join(said))
        return "".join(printed)


def _copy(stream: IO[bytes], kept: list[str], show: bool) -> None:
    for line in stream:
        text = line.decode(errors="replace")
        kept.append(text)
        if show:
            sys.stderr.write(text)
            sys.stderr.flush()
