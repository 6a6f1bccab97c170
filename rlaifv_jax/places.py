"""Paths on a disk or in the cloud (gs://…), and whatever is done in another way there.

An object store has no directories, no appending and no locks. An object is there as a whole or not at all, and what
another process writes is seen at once.
"""

import atexit
import contextlib
import hashlib
import logging
import os
import re
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import fsspec
from etils import epath

from rlaifv_jax.errors import Unreachable, UserError

BEHIND_GS = ("gcsfs", "aiohttp", "google")  # libraries that raise anything
STAMPS = ("size", "etag", "ETag", "generation", "updated", "mtime")  # tell that a file is another
ADDRESS = re.compile(r"\S+/\S*")
TEMPORARY = re.compile(r"connect|time-?d? ?out|unavailable|deadline|too many|\b(429|50[0-4])\b", re.IGNORECASE)

logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it tells of every try with a traceback, and raises the last
# A listing is not believed later: other processes write there, too.
for _protocol in ("gs", "gcs"):
    fsspec.config.conf.setdefault(_protocol, {})["use_listings_cache"] = False


def is_remote(path: Any) -> bool:
    """Whether it is an address, such as gs://bucket/run, and no path on a disk."""
    return "://" in str(path)


def place(path: Any) -> Path:
    """A path, or what has its interface at an address; there `stat` differs, see `size`."""
    return epath.Path(path) if is_remote(path) else Path(path)


def whole(path: Any) -> Path:
    """The same, from the root on."""
    return place(path if is_remote(path) else os.path.abspath(path))


def size(file: Path) -> int:
    """Bytes of a file."""
    stat: Any = file.stat()
    return stat.length if is_remote(file) else stat.st_size


def entries(directory: Path) -> list[Path]:
    """What is in a directory, in order; nothing where it is not there. In the cloud an empty one is not."""
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []


def remove_tree(directory: Path) -> None:
    """Remove a directory, if it is there."""
    if not is_remote(directory):
        shutil.rmtree(directory, ignore_errors=True)
        return
    with contextlib.suppress(FileNotFoundError):
        directory.rmtree()  # type: ignore[attr-defined]


def put(file: Path, target: Path) -> None:
    """Move a finished file of a disk to its place, where it appears whole or not at all."""
    if not is_remote(target):
        file.replace(target)
        return
    system, address = fsspec.core.url_to_fs(str(target))
    system.put_file(str(file), address)
    file.unlink()


def create(target: Path, data: bytes) -> bool:
    """Write an object that must not be there; returns whether it was not."""
    system, address = fsspec.core.url_to_fs(str(target))
    try:
        system.pipe_file(address, data, mode="create")
    except Exception:  # gcsfs has no class of its own for that
        if not target.exists():
            raise
        return target.read_bytes() == data  # ours after all, where the reply was lost and the request sent again
    return True


@cache
def _copies() -> Path:
    """A directory of this process's own, gone with it."""
    folder = tempfile.mkdtemp(prefix="rlaifv-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def scratch(name: str) -> Path:
    """A new directory on this host's disk, gone with the process."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_copies()))


def local(files: Sequence[Path | str]) -> list[Path]:
    """The same files on this host's disk: copies of those that are not, made once as long as nothing changes."""
    folders = Counter(str(file).rpartition("/")[0] for file in files if is_remote(file))
    listed: dict[str, dict[str, Any]] = {}
    missing: dict[str, Path] = {}
    found = []
    for file in map(str, files):
        if not is_remote(file):
            found.append(Path(file))
            continue
        system, address = fsspec.core.url_to_fs(file)
        folder, _, name = address.rpartition("/")
        if folders[file.rpartition("/")[0]] == 1:
            about = system.info(address)
        else:  # of many, one request tells of hundreds
            if folder not in listed:
                listed[folder] = {each["name"]: each for each in system.ls(folder, detail=True)}
            about = listed[folder][address]
        stamp = repr([file, *(about.get(key) for key in STAMPS)])
        copy = _copies() / hashlib.sha256(stamp.encode()).hexdigest()[:32] / name
        if not copy.exists():
            missing[address] = copy
        found.append(copy)
    if missing:
        fetched = [scratch("fetched") / copy.name for copy in missing.values()]
        system.get(list(missing), [str(file) for file in fetched])  # many at once
        for file_here, copy in zip(fetched, missing.values(), strict=True):
            copy.parent.mkdir(exist_ok=True)
            file_here.replace(copy)
    return found


def reason(error: BaseException) -> str:
    """What an error of the disk or the cloud says, in one line: the first two of its own."""
    text = getattr(error, "strerror", None) or str(error)
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return ": ".join(lines[:2])[:300] or type(error).__name__


def refused(what: str, error: BaseException, mend: str) -> UserError:
    """`what` could not be done, why, and what to do; of the class of `fault`."""
    return type(fault(error) or UserError())(f"{what} ({reason(error)}); {mend}")


def fault(error: BaseException) -> UserError | None:
    """One line for what the libraries of a cloud raise, which may be of any class; None for any other error."""
    files = {part for frame in traceback.extract_tb(error.__traceback__) for part in Path(frame.filename).parts}
    text = str(error)
    if not (files & set(BEHIND_GS) or re.search("gs://|gcsfs|storage/v1/b/", text)):
        return None
    said = reason(error)
    if isinstance(error, ImportError):
        return UserError(f"{said}; gs:// needs pip install 'rlaifv-jax[gcs]'")
    if isinstance(error, FileNotFoundError) or "NOT_FOUND" in text:
        return UserError(f"the cloud knows no such bucket or file: {said}")
    if TEMPORARY.search(f"{type(error).__name__} {ADDRESS.sub('', text)}"):
        return Unreachable(f"the cloud cannot be reached: {said}. Start the same command again to go on")
    return UserError(f"the cloud refuses: {said}; see docs/cloud.md for the rights that are needed")
