"""What a user may type wrongly is refused in one line, before anything is measured."""

import argparse

import pytest

from benchmarks import options


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pairs", "0"], "'0' is no whole number from 1 on"),
        (["--rounds", "-3"], "expected one argument|no whole number from 1 on"),
        (["--cores", "x"], "'x' is no whole number from 0 on"),
        (["--photos", "/nowhere"], "/nowhere is no directory"),
        (["--json", "/nowhere/x.json"], "there is no directory /nowhere to write x.json to"),
    ],
)
def test_refused(flags, message, capsys):
    parser = options.make_parser("About it.", rounds=3)
    options.add_cores(parser)
    options.add_photos(parser)
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(flags)
    assert stopped.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert any(part in error for part in message.split("|"))


def test_accepted(tmp_path):
    parser = options.make_parser(None, rounds=3)
    chosen = parser.parse_args(["--pairs", "2", "--json", str(tmp_path / "found.json")])
    assert chosen == argparse.Namespace(pairs=2, rounds=3, json=tmp_path / "found.json")
