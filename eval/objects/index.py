"""What is in every picture, made once from annotations and kept in one small file beside the questions.

{"world": "coco", "extractor": who read the captions, "vocabulary": its sha256, "sources": {file: sha256},
 "compat": {image id: [classes]}, "fixed": {image id: [classes]}}
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from eval.objects import vocabulary
from rlaifv_jax.errors import UserError
from rlaifv_jax.records.settings import write_whole

FILE = "object_index.json"
BUILD = "build it with `python -m eval data object_halbench --coco DIR`"
Classes = Mapping[str, list[str]]


@dataclass(frozen=True)
class ObjectIndex:
    """compat, fixed: image id → its classes, sorted, as the matcher of each mode finds them in its captions."""

    world: str
    extractor: str
    compat: Classes
    fixed: Classes
    vocabulary: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)

    def of(self, image_id: str) -> dict[str, list[str]]:
        """Classes by mode, of a picture named by its number in whatever writing, or by its exact name.

        Raises:
          KeyError: it is not there.
        """
        key = image_id if image_id in self.compat or not image_id.isdecimal() else str(int(image_id))
        return {"compat": self.compat[key], "fixed": self.fixed[key]}


def write(index: ObjectIndex, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, [json.dumps(asdict(index), ensure_ascii=False, separators=(",", ":")), "\n"])


def read(file: Path) -> ObjectIndex:
    """Raises `UserError` if it is not there, is no such file, or is of another vocabulary."""
    try:
        content = json.loads(file.read_text("utf-8"))
        index = ObjectIndex(**content)
        if not (isinstance(index.compat, dict) and isinstance(index.fixed, dict)):
            raise TypeError
        if index.compat.keys() != index.fixed.keys():
            raise ValueError
    except FileNotFoundError:
        raise UserError(f"{file} is not there; {BUILD}") from None
    except (OSError, ValueError, TypeError):
        raise UserError(f"{file} is no index of objects; {BUILD}") from None
    if index.world == "coco" and index.vocabulary != vocabulary.load().sha256:
        raise UserError(f"{file} was built with another vocabulary; {BUILD}")
    return index
