"""What a directory holds: training runs, rounds, feedback, evaluations."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from etils import epath

from rlaifv_jax.errors import UserError
from rlaifv_jax.places import is_remote

# Folders of a run that hold no other run, and may be large.
INSIDE = ("cache", "checkpoints", "parts", "pictures", "profile", "reference", "tensorboard", "weights")
DEEPEST, MOST = 6, 5000  # folders within each other, and in all
# Names of files, which need not be asked whether they are folders; other names may have a dot in them.
FILES = re.compile(r"\.(bin|html|jpe?g|jsonl?|lock|log|md|model|np[yz]|parquet|png|pt|py|safetensors|txt)", re.I)
ROUND = re.compile(r"(?:(?P<of>.*)/)?round_(?P<round>\d+)(?:/(?:measured|train/weights)/(?P<step>\d+)|/train)?")


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
    remote = is_remote(directory)
    if remote and not directory.startswith("gs://"):
        raise UserError(f"{directory}: runs are read from this machine's disks and from gs://; copy it to one of these")
    root = epath.Path(directory)
    try:
        if remote:
            next(iter(root.iterdir()), None)  # tells why not, where `is_dir` says only that
        elif not root.is_dir():
            raise UserError(f"{directory}: there is no such directory; name that of a run (its output_dir)")
        found = Found(root)
        for place in _walk(root, DEEPEST):
            _look(found, place)
    except OSError as error:
        if remote:
            raise  # see places.fault
        raise UserError(f"{directory} cannot be read ({error.strerror or error}); check its rights") from None
    if not (found.runs or found.rounds or found.feedback or found.evaluations):
        raise UserError(
            f"{directory} is no run: neither metrics.jsonl (training), state.json (rounds), score/ or pairs/ "
            "(feedback) nor scores.json (evaluation) is there or below; name a run's output_dir"
        )
    _name(found)
    found.demo = (root / ".demo").exists() and (root / "summary.json").exists()
    return found


def _look(found: Found, directory: epath.Path) -> None:
    place = Place(str(directory.relative_to(found.root)), directory)
    if (directory / "metrics.jsonl").exists():
        found.runs.append(place)
    if (directory / "state.json").exists():
        found.rounds.append(place)
    if (directory / "scores.json").exists() and (directory / "items.jsonl").exists():
        found.evaluations.append(place)
    if any((directory / file).exists() for file in ("score/manifest.json", "pairs/report.json")):
        found.feedback.append(place)


def _name(found: Found) -> None:
    """Names instead of paths; with those of their folders where rounds lie in several."""
    kinds = (found.runs, found.rounds, found.feedback, found.evaluations)
    rounds = [named["of"] for kind in kinds for place in kind if (named := ROUND.fullmatch(place.name))]
    several = len(found.rounds) > 1 or len(set(rounds)) > 1
    for kind in kinds:
        kind[:] = [replace(place, name=name_of(place.name, found.root.name, several)) for place in kind]


def name_of(path: str, otherwise: str, several: bool = False) -> str:
    """A place below the report's directory, for people: rounds/round_2/measured/14 is 'round 2, step 14', of several
    'rounds, round 2, step 14'."""
    if named := ROUND.fullmatch(path):
        parts = [named["of"] if several else "", f"round {named['round']}", named["step"] and f"step {named['step']}"]
        return ", ".join(filter(None, parts))
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
    return path.name in INSIDE or path.name.startswith(".") or bool(FILES.fullmatch(path.suffix))


def _in_order(path: epath.Path) -> list[tuple[int, str]]:
    return [(int(part or 0), rest) for rest, part in re.findall(r"(\D*)(\d*)", path.name)]
