"""Versions of libraries, to be written beside results."""

import contextlib
from collections.abc import Iterable
from importlib import metadata


def versions(libraries: Iterable[str]) -> dict[str, str]:
    """{name: version} of those that are installed."""
    found = {}
    for name in libraries:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
