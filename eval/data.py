"""`python -m eval data`: what a benchmark needs, where it is from, and whether what is there is that."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from eval.files import read_rows, sha256
from eval.sources import SOURCES, Source
from rlaifv_jax.errors import UserError

OK, PRESENT, MISSING, ALTERED = "ok", "there", "missing", "ALTERED"


@dataclass(frozen=True)
class State:
    """One of the four words above, and what is to be said about it."""

    word: str
    more: str = ""


def folder_of(root: Path, benchmark: str) -> Path:
    """ROOT/BENCHMARK where that is, else ROOT."""
    return root / benchmark if (root / benchmark).exists() else root


def files_of(benchmark: str, data: Path) -> list[Path]:
    """The files that are there and decide a score, in order."""
    if data.is_file():
        return [data]
    names = [source.name for source in SOURCES[benchmark] if not source.name.endswith("/")]
    return [data / name for name in names if (data / name).is_file()]


def state_of(source: Source, data: Path) -> State:
    """What is to be said of a file. A hash decides where one is known, else the number of rows."""
    file = data / source.name
    if source.name.endswith("/"):
        count = sum(1 for _ in file.iterdir()) if file.is_dir() else 0
        return State(PRESENT, f"{count} files") if count else State(MISSING, source.optional)
    if not file.is_file():
        return State(MISSING, source.optional)
    if source.sha256 or source.git:
        right = sha256([file]) == source.sha256 if source.sha256 else git_id(file) == source.git
        return State(OK, "as published") if right else State(ALTERED, "is not the published file; fetch it again")
    if source.rows and file.suffix in (".json", ".jsonl"):
        try:
            rows = len(read_rows(file))
        except UserError as error:
            return State(ALTERED, str(error))
        if rows != source.rows:
            return State(ALTERED, f"{rows} rows; {source.rows} are published")
        return State(PRESENT, f"{rows} rows, no hash known")
    return State(PRESENT, "no hash known")


def git_id(file: Path) -> str:
    """As `git hash-object`."""
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def faults(benchmark: str, data: Path) -> list[str]:
    """What a report has to say about data that is not as published; missing pictures are no fault of a score."""
    if data.is_file():
        return []
    states = [(source, state_of(source, data)) for source in SOURCES[benchmark] if not source.name.endswith("/")]
    return [f"{source.name} {state.more}" for source, state in states if state.word == ALTERED]


def describe(benchmark: str, data: Path) -> str:
    """A paragraph for each file."""
    lines = [f"{benchmark}: looked for in {data}"]
    for source in SOURCES[benchmark]:
        state = state_of(source, data)
        size = f", {source.size:,} bytes" if source.size else ""
        known = f"sha256 {source.sha256}" if source.sha256 else f"git object {source.git}" if source.git else ""
        lines.append(
            f"  [{state.word}] {source.name}: {source.what}{size}" + (f" ({state.more})" if state.more else "")
        )
        lines.append(f"      from {source.origin} · licence: {source.licence}" + (f" · {known}" if known else ""))
    return "\n".join(lines)


def is_there(benchmark: str, data: Path) -> bool:
    """Whether a score can be tried: something of the benchmark's own is there, under its name or in its folder."""
    return data.name == benchmark or bool(files_of(benchmark, data))


def is_whole(benchmark: str, data: Path) -> bool:
    """Whether everything that is needed is there and as published."""
    states = [(source, state_of(source, data).word) for source in SOURCES[benchmark]]
    return all(word in (OK, PRESENT) or (word == MISSING and source.optional) for source, word in states)
