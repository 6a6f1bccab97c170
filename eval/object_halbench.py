"""Object HalBench: 300 detailed descriptions of COCO pictures, and the objects in them that are not in the picture.

Source: Yu et al. 2023 (RLHF-V, arXiv 2312.00849), evaluated as RLAIF-V does (eval/eval_gpt_obj_halbench.py), after
CHAIR of Rohrbach et al. 2018. A judge lists the objects that an answer mentions; without one, its words are read as
captions are. What is in a picture stands in an index (`eval.objects.index`). The modes differ in how replies
(`eval.objects.replies`) and words (`eval.objects.match`) are read.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.benchmark import Benchmark, Item, Mode, Row, Sums, Tools, ratio
from eval.files import read_rows, text_of
from eval.judge.request import Request
from eval.judging import judged
from eval.objects import index
from eval.objects.extractors.base import ObjectExtractor
from eval.objects.match import Mention
from eval.objects.replies import REPLIES
from eval.prompts import fill
from rlaifv_jax.errors import UserError

FILE = "obj_halbench_300_with_image.jsonl"
STAGE = "object_halbench"
TOO_SHORT = 3  # words, up to which an answer is taken to mention nothing, and the judge is not asked
RATES = {  # as the original prints them: name, of what, whether more is better
    "Response Hall": ("CHAIRs_refine", False),
    "Object Hall": ("CHAIRi", False),
    "Response Correct": ("correct_rate", True),
    "Object Correct": ("object_correct_rate", True),
    "Object Recall": ("obj_rec", True),
}
COUNTS = {
    "COCO Sent Number": "coco_sentence_num",
    "COCO Word Number": "coco_word_count",
    "GT Word Number": "gt_word_count",
}


class ObjectHalBench(Benchmark):
    name, title = "object_halbench", "Object HalBench"
    stages = (STAGE,)
    optional_judge = extracts = True
    headline = ("Response Hall", "Object Hall")
    higher_is_better: Mapping[str, bool] = {
        **{name: better for name, (_, better) in RATES.items()},
        **dict(RATES.values()),
        "CHAIRs": False,
    }

    def items(self, data: Path) -> list[Item]:
        file = _questions(data)
        rows = read_rows(file)
        if not rows:
            raise UserError(f"{file} holds no questions; fetch it again")
        known = index.read(file.parent / index.FILE)
        made_by = {"world": known.world, "extractor": known.extractor}
        items = []
        for row, identity in zip(rows, _identities(rows, file), strict=True):
            where = f"{file}, question {identity}"
            image_id = str(row["image_id"])
            try:
                objects = known.of(image_id)
            except KeyError:
                raise UserError(
                    f"{where}: image {image_id} is not in {index.FILE}; {index.BUILD} from the annotations of all"
                ) from None
            image = row.get("image") or row.get("image_path") or ""
            if not isinstance(image, str):
                raise UserError(f"{where}: the image is {type(image).__name__}; base64 or a path is needed")
            question = text_of(row, ("question",), where)
            items.append(Item(identity, question, image, image_id, reference={"objects": objects, "index": made_by}))
        return items

    def notes(self, rows: Sequence[Row], tools: Tools) -> list[str]:
        makers = sorted({row.item.reference["index"]["extractor"] for row in rows})
        return [f"nouns of the reference captions: {', '.join(makers)}; of published figures: nltk"]

    def examine(self, rows: Sequence[Row], tools: Tools) -> None:
        """Without a judge by the text of the answers, else by what it lists."""
        extractor = tools.extractor
        if not isinstance(extractor, ObjectExtractor):
            raise UserError("Object HalBench needs an extractor of objects; see --extractor in --help")
        for row in rows:
            if row.item.reference["index"]["world"] != extractor.world:
                made_by = row.item.reference["index"]["extractor"]
                raise UserError(
                    f"{index.FILE} is of {made_by}, whose classes the extractor {extractor.name} does not know; choose "
                    "another --extractor, or build the index again"
                )
        for row, mentions in _mentions(rows, extractor, tools):
            _find_out(row, mentions, extractor, tools.mode)

    def counts(self, row: Row) -> dict[str, float]:
        values = row.values
        return {
            "n": 1,
            "responses hallucinated": bool(values["hallucinated"]),
            "responses with objects": bool(values["mentions"]),
            "hallucinated": len(values["hallucinated"]),
            "mentions": len(values["mentions"]),
            "found": values["found"],
            "objects": values["objects"],
            "words": values["words"],
        }

    def metrics(self, sums: Sums, mode: Mode) -> dict[str, Any]:
        """The original's file has fractions under its own names, its summary percents under those of RATES."""
        refined = ratio(sums["responses hallucinated"], sums["responses with objects"])
        by_mention = ratio(sums["hallucinated"], sums["mentions"])
        published = {
            "CHAIRs": ratio(sums["responses hallucinated"], sums["n"]),
            "CHAIRs_refine": refined,
            "CHAIRi": by_mention,
            "obj_rec": ratio(sums["found"], sums["objects"]),
            "correct_rate": 1 - refined,
            "object_correct_rate": 1 - by_mention,
            "avg_word_len": ratio(sums["words"], sums["n"]),
            "sentence_num": sums["n"],
            "coco_sentence_num": sums["responses with objects"],
            "coco_word_count": sums["found"],
            "gt_word_count": sums["objects"],
        }
        return {
            **{name: 100 * published[of] for name, (of, _) in RATES.items()},
            "Average Length": published["avg_word_len"],
            **{name: published[of] for name, of in COUNTS.items()},
            **published,
        }


def _questions(data: Path) -> Path:
    """The file of questions: under its own name, or the one that looks like it."""
    if data.is_file() or (data / FILE).is_file():
        return data if data.is_file() else data / FILE
    found = [file for file in sorted(data.glob("*.jsonl")) if _asks(file)]
    if len(found) != 1:
        many = f"more than one that could be it ({', '.join(file.name for file in found)})" if found else "no other"
        raise UserError(f"{data} has no {FILE}, and {many}; a .jsonl with question and image_id is needed")
    return found[0]


def _asks(file: Path) -> bool:
    """Whether its first line is a question about a picture; answers name their model or have a text."""
    try:
        with file.open(encoding="utf-8-sig") as opened:
            row = json.loads(opened.readline())
    except (OSError, ValueError):
        return False
    return isinstance(row, dict) and {"question", "image_id"} <= row.keys() and not {"text", "answer"} & row.keys()


def _identities(rows: Sequence[Mapping[str, Any]], file: Path) -> list[str]:
    """image_id of every row, or its org_idx where pictures repeat."""
    for number, row in enumerate(rows):
        if not isinstance(row.get("image_id"), (int, str)) or row["image_id"] == "":
            raise UserError(f"{file}, row {number}: has no image_id, which is needed")
    for name in ("image_id", "org_idx"):
        identities = [str(row.get(name)) for row in rows]
        if len(set(identities)) == len(rows):
            return identities
    twice = Counter(str(row["image_id"]) for row in rows).most_common(1)[0][0]
    raise UserError(f"{file}: image {twice} is there twice, an org_idx for each question is needed to tell them apart")


def _mentions(rows: Sequence[Row], extractor: ObjectExtractor, tools: Tools) -> Iterator[tuple[Row, list[Mention]]]:
    if tools.judge is None:
        yield from ((row, extractor.in_text(row.answer, tools.mode)) for row in rows)
        return
    extractor.in_phrases([], tools.mode)  # refuses before money is spent
    asked = []
    for row in rows:
        if len(row.answer.split()) <= TOO_SHORT:
            yield row, []
        else:
            slots = {"question": row.item.question, "answer": row.answer}
            asked.append((row, Request(STAGE, fill(tools.prompts[STAGE], slots, STAGE), "", 0.2, 512)))
    for row, listed in judged(tools.judge, asked, REPLIES[tools.mode]):
        yield row, extractor.in_phrases(listed, tools.mode)


def _find_out(row: Row, mentions: Sequence[Mention], extractor: ObjectExtractor, mode: Mode) -> None:
    there = set(row.item.reference["objects"][mode])
    wrong = [mention for mention in mentions if mention.canonical not in there]
    row.values = {
        "mentions": [[mention.surface, mention.canonical] for mention in mentions],
        "hallucinated": [[mention.surface, mention.canonical] for mention in wrong],
        "objects": len(there),
        "found": len({mention.canonical for mention in mentions} & there),
        "words": len(row.answer.split(" ")),  # single blanks, as published
    }
    row.marked = extractor.marked(row.answer, wrong)


OBJECT_HALBENCH = ObjectHalBench()
