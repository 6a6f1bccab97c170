"""What a directory holds: training runs, rounds, feedback, evaluations."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from etils import epath

from rlaifv_jax.errors import UserError

# Folders of a run that hold no other run, and may be large.
INSIDE = ("cache", "checkpoints", "parts", "pictures", "profile", "reference", "tensorboard", "weights")
DEEPEST, MOST = 6, 5000  # folders within each other, and in all


@dataclass(frozen=True)
class Place:
    """name: for people. directory: where it is."""

    name: str
    directory: epath.Path


@dataclass
class Found:
    """What there is below `root`, in the order of rounds and steps.

    runs: training runs. rounds: directories of rlaifv_jax.iterate. feedback: directories whose claims are scored or
    whose pairs are made. evaluations: runs of `eval`. demo: whether `root` is a demo's, whose summary.json is its own.
    """

    root: epath.Path
    runs: list[Place] = field(default_factory=list)
    rounds: list[Place] = field(default_factory=list)
    feedback: list[Place] = field(default_factory=list)
    evaluations: list[Place] = field(default_factory=list)
    demo: bool = False


def find(directory: str) -> Found:
    """Look into a directory and below it.

    Raises:
      UserError: it is not there, or nothing of all this is in it.
    """
    root = epath.Path(directory)
    try:
        if not root.is_dir():
            raise UserError(f"{directory}: there is no such directory; name that of a run (its output_dir)")
        found = Found(root)
        for place in _walk(root, DEEPEST):
            _look(found, place)
    except OSError as error:
        raise UserError(f"{directory} cannot be read ({error.strerror or error}); check its rights") from None
    if not (found.runs or found.rounds or found.feedback or found.evaluations):
        raise UserError(
            f"{directory} is no run: neither metrics.jsonl (training), state.json (rounds), score/ or pairs/ "
            "(feedback) nor scores.json (evaluation) is there or below; name a run's output_dir"
        )
    found.demo = (root / ".demo").exists() and (root / "summary.json").exists()
    return found


def _look(found: Found, directory: epath.Path) -> None:
    place = Place(name_of(str(directory.relative_to(found.root)), found.root.name), directory)
    if (directory / "metrics.jsonl").exists():
        found.runs.append(place)
    if (directory / "state.json").exists():
        found.rounds.append(place)
    if (directory / "scores.json").exists() and (directory / "items.jsonl").exists():
        found.evaluations.append(place)
    if any((directory / file).exists() for file in ("score/manifest.json", "pairs/report.json")):
        found.feedback.append(place)


def name_of(path: str, otherwise: str) -> str:
    """A place below the report's directory, for people: rounds/round_2/measured/14 is 'round 2, step 14'."""
    if named := re.search(r"(?:^|/)round_(\d+)(?:/(?:measured|train/weights)/(\d+)|/train)?$", path):
        return f"round {named[1]}" + (f", step {named[2]}" if named[2] else "")
    return otherwise if path == "." else path


def _walk(directory: epath.Path, depth: int) -> Iterator[epath.Path]:
    """The directory and those below it, numbers in names in their order."""
    left, todo = MOST, [(directory, depth)]
    while todo:
        place, depth = todo.pop()
        left -= 1
        if not left:
            raise UserError(f"{directory} holds more than {MOST} folders; name the run's own")
        yield place
        children = [each for each in place.iterdir() if depth and not _is_skipped(each) and each.is_dir()]
        todo += [(child, depth - 1) for child in sorted(children, key=_in_order, reverse=True)]


def _is_skipped(path: epath.Path) -> bool:
    return path.name in INSIDE or path.name.startswith(".") or bool(path.suffix)


def _in_order(path: epath.Path) -> list[tuple[int, str]]:
    return [(int(part or 0), rest) for rest, part in re.findall(r"(\D*)(\d*)", path.name)]
