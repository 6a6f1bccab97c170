"""MMStar: 1,500 questions with four options each that need the picture, in 6 categories and 18 sub-categories.

Source: Chen et al. 2024 (arXiv 2403.20330). `compat`: in small letters, the answer's first character, or that behind
'(', 'option ' or 'the answer is ', is the option; what is none is wrong, and shares are of the published numbers of
questions. `fixed`: an option's letter in the usual writings, else the text of one option alone; an answer with none or
several has failed, and shares are of the questions that are there. Percent where the original prints fractions, as
papers do.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from eval.benchmark import Benchmark, Item, Mode, Row, Sums, Tools, ratio
from eval.files import find, picture_of, read_rows, text_of
from eval.keyed import keyed
from eval.mmstar_options import option, option_as_published
from rlaifv_jax.data.pictures import LONGEST_PATH
from rlaifv_jax.errors import UserError

FILES = ("mmstar.parquet", "MMStar.parquet", "mmstar.jsonl", "MMStar.jsonl")
CATEGORIES = {
    "coarse perception": ("image scene and topic", "image style & quality", "image emotion"),
    "fine-grained perception": ("object counting", "recognition", "localization"),
    "instance reasoning": (
        "single-instance reasoning",
        "cross-instance attribute reasoning",
        "cross-instance relation reasoning",
    ),
    "logical reasoning": ("code & sequence reasoning", "diagram reasoning", "common reasoning"),
    "science & technology": (
        "biology & chemistry & physics",
        "electronics & energy & mechanical eng.",
        "geography & earth science & agriculture",
    ),
    "math": ("geometry", "numeric commonsense and calculation", "statistical reasoning"),
}
SUBS = tuple((category, sub) for category, subs in CATEGORIES.items() for sub in subs)
QUESTIONS, OF_CATEGORY = 1500, 250  # published

PARSERS: dict[Mode, Callable[[str, str], str | None]] = {"compat": option_as_published, "fixed": option}
# (number of questions that are there, published number) → what a share is of
WHOLES: dict[Mode, Callable[[Any, int], Any]] = {"compat": lambda here, all: all, "fixed": lambda here, all: here}


class Mmstar(Benchmark):
    name, title = "mmstar", "MMStar"
    headline = ("final score",)
    higher_is_better: Mapping[str, bool] = dict.fromkeys(
        ("final score", *CATEGORIES, *(f"{category}({sub})" for category, sub in SUBS)), True
    )

    def items(self, data: Path) -> list[Item]:
        file = find(data, *FILES)
        rows = _parquet(file) if file.suffix == ".parquet" else read_rows(file)
        return [_item(row, file, key) for key, row in keyed(rows, "index", file).items()]

    def examine(self, rows: Sequence[Row], tools: Tools) -> None:
        parse = PARSERS[tools.mode]
        for row in rows:
            said, answer = parse(row.answer, row.item.question), row.item.reference["answer"]
            if said is None:
                row.failed = "no single option can be found in the answer"
            else:
                row.values = {"said": said, "answer": answer, "right": said == answer, **_place(row.item)}

    def counts(self, row: Row) -> dict[str, float]:
        here = row.item.category, row.item.reference["l2_category"]
        return {
            f"{category}({sub}) {name}": float(value and here == (category, sub))
            for category, sub in SUBS
            for name, value in (("asked", True), ("right", row.values["right"]))
        }

    def metrics(self, sums: Sums, mode: Mode) -> dict[str, Any]:
        whole = WHOLES[mode]
        found, all_right, all_asked = {}, 0.0, 0.0
        for category, subs in CATEGORIES.items():
            right, asked = (sum(sums[f"{category}({sub}) {name}"] for sub in subs) for name in ("right", "asked"))
            found[category] = 100 * ratio(right, whole(asked, OF_CATEGORY))
            all_right, all_asked = all_right + right, all_asked + asked
        return {
            "final score": 100 * ratio(all_right, whole(all_asked, QUESTIONS)),
            **found,
            **{
                f"{category}({sub})": 100 * ratio(sums[f"{category}({sub}) right"], sums[f"{category}({sub}) asked"])
                for category, sub in SUBS
            },
        }


def _place(item: Item) -> dict[str, str]:
    return {"category": item.category, "l2_category": item.reference["l2_category"]}


def _item(row: Mapping[str, Any], file: Path, key: str) -> Item:
    where = f"{file}, index {key}"
    category, sub = text_of(row, ("category",), where), text_of(row, ("l2_category",), where)
    if (category, sub) not in SUBS:
        raise UserError(f"{where}: {category!r} with {sub!r} is no category of MMStar; fetch the file again")
    answer = text_of(row, ("answer",), where).strip().upper()
    if answer not in tuple("ABCD"):
        raise UserError(f"{where}: 'answer' is {answer!r}; it can be A, B, C or D")
    return Item(
        id=key,
        question=text_of(row, ("question",), where),
        image=_image(row.get("image"), file, where),
        image_id=key,
        category=category,
        reference={"answer": answer, "l2_category": sub},
    )


def _image(cell: Any, file: Path, where: str) -> str:
    """Base64, or a path, of bytes, {bytes, path}, base64 or a path."""
    if isinstance(cell, Mapping):
        cell = cell.get("bytes") or cell.get("path")
    if isinstance(cell, bytes):
        return base64.b64encode(cell).decode()
    if cell is not None and not isinstance(cell, str):
        raise UserError(f"{where}: 'image' is {type(cell).__name__}; a picture or its path is needed")
    return cell if cell and len(cell) > LONGEST_PATH else picture_of(file, cell or "")


def _parquet(file: Path) -> list[dict[str, Any]]:
    try:
        return parquet.read_table(file).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{file} cannot be read as Parquet ({str(error).splitlines()[0]}); fetch it again") from None


MMSTAR = Mmstar()
