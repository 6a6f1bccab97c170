"""Command-line options that the benchmarks share, and types that refuse what no benchmark can do."""

import argparse
from pathlib import Path

from benchmarks.pairs import PHOTOS


def positive(text: str) -> int:
    """1, 2, 3, …"""
    return _whole(text, 1)


def whole(text: str) -> int:
    """0, 1, 2, …"""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
    return int(text)


def directory(text: str) -> Path:
    """One that is there."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no directory")
    return Path(text)


def new_file(text: str) -> Path:
    """A file that can be written, found out before anything is measured."""
    if not Path(text).parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {Path(text).parent} to write {Path(text).name} to")
    return Path(text)


def make_parser(
    description: str | None, *, rounds: int, pairs: str | None = "preference pairs"
) -> argparse.ArgumentParser:
    """With --pairs (said to be `pairs`; none without them), --rounds and --json."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if pairs:
        parser.add_argument("--pairs", type=positive, default=8, help=f"{pairs}, default 8")
    parser.add_argument("--rounds", type=positive, default=rounds, help=f"timed calls of each, default {rounds}")
    parser.add_argument("--json", type=new_file, metavar="FILE", help="write the results there too")
    return parser


def add_cores(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cores", type=whole, default=0, help="0: all this process may use")


def add_photos(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--photos", type=directory, default=PHOTOS, help="a directory with JPEG files; without, scenes are rendered"
    )
