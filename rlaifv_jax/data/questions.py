"""Question files of the original in, its answer records out.

    {"question": "…", "image_path": "…", "ds_question_id": "…", "metainfos": {…}}     a line each, or one JSON array

`image` may hold base64 text or a path and goes before `image_path`, which may also stand in `metainfos`. Relative paths
start in the file's folder, else in the working directory, where the original looks. Parquet with the same columns does
as well. Fields and their meaning: muffin/llava15_gen_data.py of RLAIF-V.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from rlaifv_jax.data import images
from rlaifv_jax.data.finder import Pictures
from rlaifv_jax.data.pictures import LONGEST_PATH
from rlaifv_jax.data.tables import Table, open_table
from rlaifv_jax.errors import UserError

NOT_REPEATED = ("image_id", "question", "image")  # of the question's record, in `metainfos` of the answer's


@dataclass(frozen=True)
class Question:
    """row: of the file. index: from 0 among those that are asked. name: what it asks about what; the same on every
    place in any file, but for repetitions, which are numbered."""

    row: int
    index: int
    text: str
    name: str


class Questions:
    """Rows `start` to `end` of a file; end < 0 or beyond the last row: all of them, as the original takes it.
    image_folder: where relative picture paths may start, beside the file's folder and the working directory.

    Raises:
      UserError: the file cannot be read, or a row has no question.
    """

    def __init__(self, path: str, start: int = 0, end: int = -1, image_folder: str = ""):
        self.table: Table = open_table(path)
        self.image_folder = image_folder or None
        count = len(self.table)
        if not count:
            raise UserError(f"{path} holds no questions; give a file with a row for each")
        stop = count if end < 0 or end > count else end
        if not 0 <= start < stop:
            raise UserError(f"{path} has {count} rows: rows {start} to {end} hold nothing to ask; choose others")
        digest, times = hashlib.sha256(), Counter[str]()
        self.asked: list[Question] = []
        for row in range(stop):  # those before `start` too: repetitions are numbered through the file
            record = self.table.row(row)
            text = record.get("question")
            if not isinstance(text, str):
                found = "no 'question'" if text is None else f"a 'question' of type {type(text).__name__}"
                raise UserError(f"{path}, row {row}: has {found}; a text is needed")
            name = _name(record)
            times[name] += 1
            repeated = f"{name} {times[name]}" if times[name] > 1 else name
            if row >= start:
                self.asked.append(Question(row, row - start, text, repeated))
                digest.update(json.dumps(record, default=_plain, sort_keys=True).encode())
        self.fingerprint = digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.asked)

    def record(self, question: Question) -> dict[str, Any]:
        return self.table.row(question.row)

    def picture(self, question: Question) -> Image.Image | None:
        """The RGB picture of a question, None where it names none. Raises `BadRow`."""
        data = self.image(question)
        return None if data is None else images.decode(data)

    def image(self, question: Question) -> bytes | None:
        """The same, encoded."""
        return Pictures([self.image_folder, self.table.folder(question.row), ""]).read(self.record(question))

    def picture_name(self, question: Question) -> str:
        """The path of its picture, or a hash of a picture that the file itself holds; empty where it has none."""
        record = self.record(question)
        image = record.get("image")
        if isinstance(image, Mapping):
            image = image.get("path") or image.get("bytes")
        if isinstance(image, bytes) or (isinstance(image, str) and len(image) > LONGEST_PATH):
            data = image if isinstance(image, bytes) else image.encode()
            return f"image-{hashlib.sha256(data).hexdigest()[:16]}"
        return str(image or _image_path(record) or "")

    def answers(
        self, question: Question, texts: Sequence[str], model: str, error: str | None = None
    ) -> list[dict[str, Any]]:
        """The original's records of all answers to a question.

        Where the file gives no question_id it is the place of the answer among those of the whole file. Where only
        `image` tells what a question is about, which answers do not repeat, the picture's name is the ds_question_id.
        """
        record = self.record(question)
        rest = {key: value for key, value in record.items() if key not in NOT_REPEATED}
        group = {"ds_question_id": record["ds_question_id"]} if "ds_question_id" in record else {}
        if record.get("ds_question_id") is None and not _image_path(record) and record.get("image"):
            group = {"ds_question_id": self.picture_name(question)}
        failed = {} if error is None else {"error": error}
        first = len(texts) * question.row
        return [
            {
                "question_id": record.get("question_id", first + number),
                **group,
                "raw_question": question.text,
                "answer": text,
                "metainfos": rest,
                "model_path": model,
                **failed,
            }
            for number, text in enumerate(texts)
        ]


def _image_path(record: Mapping[str, Any]) -> Any:
    nested = record.get("metainfos")
    return record.get("image_path") or (nested.get("image_path") if isinstance(nested, Mapping) else None)


def _name(record: Mapping[str, Any]) -> str:
    image = record.get("image") or _image_path(record)
    about = [record.get("question_id"), record.get("ds_question_id"), image, record["question"]]
    return hashlib.sha256(json.dumps(about, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> str:
    """Bytes and whatever else Parquet holds, for hashing."""
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)
