"""The index of objects of COCO 2014: categories of its instances, and what its captions mention.

Files of hundreds of MB are read in pieces, so no more than the index itself is ever in memory.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from eval.benchmark import Mode
from eval.objects import vocabulary
from eval.objects.extractors.base import ObjectExtractor
from eval.objects.index import ObjectIndex, write
from rlaifv_jax.errors import UserError

SPLITS = ("train2014", "val2014")
CAPTIONS = tuple(f"captions_{split}.json" for split in SPLITS)
INSTANCES = tuple(f"instances_{split}.json" for split in SPLITS)
PIECE = 1 << 20
MODES: tuple[Mode, ...] = ("compat", "fixed")
Found = dict[Mode, defaultdict[str, set[str]]]
Record = dict[str, Any]


def write_index(folder: Path, out: Path, matcher: ObjectExtractor) -> ObjectIndex:
    """Read the four annotation files in `folder`, or in its `annotations`, and write the index to `out`.

    matcher: reads the captions. The original's is `nltk`.

    Raises:
      UserError: a file is missing or is not COCO's, or the matcher is not one for COCO.
    """
    if matcher.world != "coco":
        raise UserError(
            f"the index of COCO cannot be built with the {matcher.name} extractor, which reads {matcher.world}"
        )
    files = [_find(Path(folder), name) for name in (*INSTANCES, *CAPTIONS)]
    found: Found = {mode: defaultdict(set) for mode in MODES}
    sources = {}
    for file in files:
        read = _instances if file.name in INSTANCES else _captions
        sources[file.name] = read(file, found, matcher)
    compat, fixed = ({image: sorted(found[mode][image]) for image in found["compat"]} for mode in MODES)
    index = ObjectIndex("coco", matcher.name, compat, fixed, vocabulary.load().sha256, sources)
    write(index, Path(out))
    return index


def _find(folder: Path, name: str) -> Path:
    for place in (folder / name, folder / "annotations" / name):
        if place.is_file():
            return place
    raise UserError(f"{folder} has no {name}; fetch it from annotations_trainval2014.zip of COCO")


def _instances(file: Path, found: Found, _: ObjectExtractor) -> str:
    """Categories come behind the annotations in COCO's files, so their numbers are kept until they are known."""
    pairs: set[tuple[str, int]] = set()
    names: dict[int, str] = {}

    def annotation(record: Record) -> None:
        pairs.add((str(int(record["image_id"])), int(record["category_id"])))

    def category(record: Record) -> None:
        names[int(record["id"])] = _canonical(record["name"], file)

    digest = _stream(file, {"annotations.item": annotation, "categories.item": category})
    for image, number in pairs:
        if number not in names:
            raise UserError(f"{file}: category {number} has no name; download the file again")
        for mode in MODES:
            found[mode][image].add(names[number])
    return digest


def _canonical(name: str, file: Path) -> str:
    canonical = vocabulary.load().canonical.get(name)
    if canonical is None:
        raise UserError(f"{file}: the vocabulary has no class {name!r}; the annotations of COCO 2014 are needed")
    return canonical


def _captions(file: Path, found: Found, matcher: ObjectExtractor) -> str:
    def annotation(record: Record) -> None:
        image = str(int(record["image_id"]))
        for mode in MODES:
            found[mode][image].update(mention.canonical for mention in matcher.in_text(record["caption"], mode))

    return _stream(file, {"annotations.item": annotation})


def _stream(file: Path, takers: dict[str, Callable[[Record], None]]) -> str:
    """Give every object at a path of the file to who takes it; returns the sha256 of the file."""
    ijson = _ijson()
    digest, taken = hashlib.sha256(), 0
    lists = {path: ijson.sendable_list() for path in takers}
    readers = [ijson.items_coro(lists[path], path, use_float=True) for path in takers]
    try:
        for piece in _pieces(file):
            digest.update(piece)
            for reader in readers:
                reader.send(piece)
            taken += _take(lists, takers)
        for reader in readers:
            reader.close()
        taken += _take(lists, takers)
    except (ijson.JSONError, StopIteration) as error:
        raise UserError(f"{file} is no whole JSON ({error}); download it again") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{file}: an annotation is not as in COCO ({type(error).__name__}: {error}); download it again"
        ) from None
    if not taken:
        raise UserError(f"{file} holds no annotations; download it again")
    return digest.hexdigest()


def _take(lists: dict[str, list[Record]], takers: dict[str, Callable[[Record], None]]) -> int:
    taken = 0
    for path, records in lists.items():
        for record in records:
            takers[path](record)
        taken += len(records)
        del records[:]
    return taken


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while piece := opened.read(PIECE):
            yield piece


def _ijson() -> Any:
    try:
        import ijson
    except ImportError:
        raise UserError("--coco: the index needs ijson; pip install 'rlaifv-jax[eval]'") from None
    return cast(Any, ijson)
