"""Every command of the README and the pages: understood in the quick tests, run in the slow ones."""

import importlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from absl import flags
from ml_collections import config_flags

from rlaifv_jax import cli
from tests.docs import decisions, small
from tests.docs.commands import Command, all_commands
from tests.world import ROOT

COMMANDS = all_commands()
RUN = [command for command in COMMANDS if not decisions.reason_not_to_run(command.text)]
BRIEF = [command for command in RUN if not re.match(decisions.SERVES, command.text)]
SERVE = [command for command in RUN if re.match(decisions.SERVES, command.text)]


def each(commands: list[Command]) -> Any:
    return pytest.mark.parametrize("command", commands, ids=lambda command: command.where)


def test_there_is_a_decision_for_every_command() -> None:
    strange = [f"{c.where}: {c.text}" for c in RUN if c.words[:2] != ["python", "-m"]]
    assert not strange, "neither run nor listed with a reason in tests/docs/decisions.py"


def test_every_decision_is_about_a_command() -> None:
    texts = [command.text for command in COMMANDS]
    rules = [*decisions.NOT_RUN, *decisions.STATUS, *decisions.PROMISED, *(shape for shape, _ in decisions.SMALLER)]
    idle = [rule for rule in rules if not any(re.match(rule, text) for text in texts)]
    words = {old for old in decisions.REPLACED if not any(old in text for text in texts)}
    assert not idle + sorted(words)


class Understood(Exception):
    """Raised where a command would begin."""


@each(RUN)
def test_flags_are_understood(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed as the command itself does; a config that is named is loaded, and its keys set."""
    words = command.words[2:]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", [words[0], *words[1:]])

    def config_command(run: Any, doc: str, define_flags: Callable[[], None] | None = None, **options: Any) -> None:
        values = flags.FlagValues()
        if define_flags:
            monkeypatch.setattr(flags, "FLAGS", values)
            for kind in ("string", "bool", "integer", "float", "list", "enum", "multi_string"):
                original = getattr(flags, f"DEFINE_{kind}")
                monkeypatch.setattr(flags, f"DEFINE_{kind}", filled(original, values))
            define_flags()
        config = config_flags.DEFINE_config_file("config", None, lock_config=True, flag_values=values)
        own = [f"--{name.replace('_', '-')}" for name in values]
        plain = [w.replace("-", "_").replace("__", "--", 1) if w in own else w for w in sys.argv]
        rest = values(plain)[1:]
        assert list(config.value)
        assert len(rest) == bool(options.get("stages"))
        assert all(word in options["stages"] for word in rest)
        raise Understood

    def guard(run: Any) -> int:
        raise Understood

    module = importlib.import_module(words[0])
    if hasattr(module, "__path__"):  # a package
        module = importlib.import_module(f"{words[0]}.__main__")
    monkeypatch.setattr(cli, "config_command", config_command)
    monkeypatch.setattr(cli, "guard", guard)
    if hasattr(module, "guard"):
        monkeypatch.setattr(module, "guard", guard)
    with pytest.raises(Understood):
        module.main()


def filled(define: Callable[..., Any], values: flags.FlagValues) -> Callable[..., Any]:
    return lambda *given, **more: define(*given, flag_values=values, **more)


@pytest.fixture(scope="module")
def judge() -> Iterator[str]:
    with small.server() as url:
        yield url


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tokenizer_dir: Path, judge: str) -> Path:
    folder = small.write(tmp_path_factory.mktemp("pages") / "world", tokenizer_dir)
    small.write_runs(folder, judge)
    return folder


@pytest.fixture(scope="module")
def forks(judge: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "docs" / "forks.py")],
        env=small.environment(judge),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.kill()


@pytest.fixture
def folder(world: Path, tmp_path: Path) -> Path:
    return small.copy_of(world, tmp_path / "here")


def words_of(command: Command, folder: Path, judge: str, port: int = 0) -> list[str]:
    """What is run, with nothing left of an earlier run of the same."""
    words = decisions.arguments(command.words, command.text, server=judge, port=str(port))
    for output in decisions.outputs(words):
        place = folder / output
        if place.is_symlink() or place.is_file():
            place.unlink()
        elif place.exists():
            shutil.rmtree(place)
    return words


@pytest.mark.slow
@each(BRIEF)
def test_runs(command: Command, folder: Path, judge: str, forks: subprocess.Popen[str], tmp_path: Path) -> None:
    words = words_of(command, folder, judge)
    assert forks.stdin
    assert forks.stdout
    forks.stdin.write(json.dumps({"words": words, "folder": str(folder), "log": str(tmp_path / "log")}) + "\n")
    forks.stdin.flush()
    status = int(forks.stdout.readline())
    said = (tmp_path / "log").read_text()
    expected = next((code for shape, code in decisions.STATUS.items() if re.match(shape, command.text)), 0)
    assert status == expected, f"{' '.join(words)}\n{said[-3000:]}"
    assert "Traceback" not in said
    for path in decisions.promised(words, command.text):
        assert list(folder.glob(path)), f"{path} is not there\n{said[-3000:]}"


@pytest.mark.slow
@each(SERVE)
def test_serves_until_it_is_stopped(command: Command, folder: Path, judge: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", *words_of(command, folder, judge, port)]
    with open(tmp_path / "log", "w+") as log:
        process = subprocess.Popen(words, cwd=folder, env=small.environment(judge), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 120
            while not answers(port):
                assert process.poll() is None, (tmp_path / "log").read_text()[-3000:]
                assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-3000:]
                time.sleep(0.3)
            served = "rlaifv_jax.serve" in words
            process.send_signal(signal.SIGTERM if served else signal.SIGINT)
            assert process.wait(30) in ((0,) if served else (0, cli.STOPPED)), (tmp_path / "log").read_text()[-3000:]
        finally:
            process.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()


def answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=2)
    except urllib.error.HTTPError:  # it speaks HTTP
        return True
    except OSError:
        return False
    return True
