"""Evaluation: settings, answers, and data of benchmarks that cannot be."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eval import answers, commands, compare, files, flags, keyed, prompts, registry
from eval.benchmark import Item
from eval.judge.local import LocalOptions
from eval.judge.server import JudgeOptions
from eval.mmhal import FILE as MMHAL
from eval.objects import index, vocabulary
from eval.objects.extractors import make_extractor
from tests.errors.cases_files import put

Case = Callable[[Path], Any]
QUESTION = {"question_type": "x", "image_id": "1", "image_content": [], "question": "q", "gt_answer": "a"}
POPE = "coco_pope_{}.json"


def run(*words: str) -> Case:
    """The command, in a folder with the data of MMHal-Bench and answers to it."""

    def case(folder: Path) -> None:
        put(folder, f"data/mmhal/{MMHAL}", [{**QUESTION, "question_type": "attribute"}])
        put(folder, "data/pope/questions.json", "")
        put(folder, "answers.jsonl", '{"question": "q", "image_id": "1", "text": "a"}')
        put(folder, "prompt.txt", "no places")
        put(folder, "file", "x")
        given = [word.format(here=folder) for word in words]
        parsed = flags.parse(given, "doc")
        getattr(commands, parsed.verb)(parsed)

    return case


def score(benchmark: str, *words: str) -> Case:
    given = ("--data", "{here}/data", "--answers", "{here}/answers.jsonl", "--output", "{here}/out")
    return run("run", benchmark, *given, *words)


def items(benchmark: str, **contents: Any) -> Case:
    """Reads the questions of a benchmark from files."""

    def case(folder: Path) -> None:
        for name, content in contents.items():
            put(folder, name, content)
        registry.get(benchmark).items(folder)

    return case


def read(*records: Any) -> Case:
    asked = [Item("1", "what ?"), Item("2", "why ?")]
    return lambda folder: answers.read(Path(put(folder, "a.jsonl", "\n".join(map(json.dumps, records)))), asked)


def cases() -> dict[str, Case]:
    judged = ("--judge-model", "m")
    return {
        "no benchmark": lambda _: registry.get("none"),
        "no data": score("refomb", *judged),
        "no judge": score("mmhal"),
        "two judges": score("mmhal", *judged, "--judge-local", "m"),
        "swapped": score("mmhal", *judged, "--swap-order"),
        "a type": items("mmhal", **{MMHAL: [QUESTION]}),
        "no contents": items("mmhal", **{MMHAL: [{**QUESTION, "image_content": 7}]}),
        "no question": items("mmhal", **{MMHAL: [{"image_content": []}]}),
        "a question of a number": items("mmhal", **{MMHAL: [{**QUESTION, "question": 7}]}),
        "no rows": items("mmhal", **{MMHAL: [7]}),
        "broken": items("mmhal", **{MMHAL: "{"}),
        "no file": items("mmhal"),
        "no text": items("mmhal", **{MMHAL: b"\xff\xfe\xfa"}),
        "other data": run("data", "pope", "--coco", "x"),
        "neither": run("data", "object_halbench", "--coco", "x", "--small-world", "2"),
        "no COCO": run("data", "object_halbench", "--coco", "{here}/none", "--data", "{here}/d"),
        "a table": run("compare", "{here}"),
        "judge's address": score("mmhal", *judged, "--judge-server", "here"),
        "judge's pace": score("mmhal", *judged, "--requests-per-minute", "-1"),
        "judge's patience": score("mmhal", *judged, "--timeout", "0"),
        "judge's retries": score("mmhal", *judged, "--retries", "-1"),
        "prompt of which": score("mmhal", *judged, "--judge-prompt", "x=y"),
        "prompt nowhere": score("mmhal", *judged, "--judge-prompt", "{here}/none"),
        "prompt without places": score("mmhal", *judged, "--judge-prompt", "{here}/prompt.txt"),
        "two prompts": score("mmhal", *judged, "--judge-prompt", "{here}/a", "--judge-prompt", "{here}/b"),
        "an extractor": score("object_halbench", "--extractor", "eyes"),
        "an output": score("mmhal", *judged, "--output", "{here}/file/x"),
        "all of nothing": run("all", "--data", "{here}/none", "--answers", "{here}", "--output", "{here}/o"),
        "extractor": lambda _: make_extractor("eyes"),
        "spacy": lambda _: make_extractor("spacy:none"),
        "nltk": lambda _: make_extractor("nltk"),
        "no answers": read(),
        "no answer": read({"question": "what ?"}, {"question": "why ?"}),
        "an answer to nothing": read({"question": "who ?", "text": "a"}),
        "two answers": read({"question": "what ?", "text": "a"}, {"question": "what ?", "text": "b"}),
        "no run": lambda folder: compare.open_runs(folder),
        "a damaged run": lambda folder: compare.open_runs(Path(put(folder, "r/scores.json", "{")).parent),
        "no index": lambda folder: index.read(folder / "none"),
        "a damaged index": lambda folder: index.read(Path(put(folder, "i", "{"))),
        "vocabulary": lambda _: vocabulary.parse("a, b\nc,,d"),
        "vocabulary twice": lambda _: vocabulary.parse("a, b\nc, b"),
        "keyed": lambda folder: keyed.keyed([{}], "id", folder / "f"),
        "keyed twice": lambda folder: keyed.keyed([{"id": 1}, {"id": 1}], "id", folder / "f"),
        "partner": lambda folder: keyed.partner({}, "7", folder / "f", "question"),
        "a file that is none": lambda folder: files.read_bytes(folder),
        "judge's name": lambda _: JudgeOptions("", ""),
        "local judge": lambda _: LocalOptions(""),
        "local judge's retries": lambda _: LocalOptions("m", parse_retries=-1),
        "POPE's label": items(
            "pope",
            **{
                POPE.format(split): '{"question_id": 1, "image": "a", "text": "q", "label": "maybe"}'
                for split in ("random", "popular", "adversarial")
            },
        ),
        "one file of POPE": lambda folder: registry.get("pope").items(Path(put(folder, "f.json", "{}"))),
        "one file of AMBER": lambda folder: registry.get("amber_generative").items(Path(put(folder, "f.json", "{}"))),
        "one file of LLaVA-Bench": lambda folder: registry.get("llava_bench_wild").items(
            Path(put(folder, "f.jsonl", "{}"))
        ),
        "no halbench": items("object_halbench", **{"obj_halbench_300_with_image.jsonl": ""}),
        "no picture of halbench": items(
            "object_halbench", **{"obj_halbench_300_with_image.jsonl": '{"question": "q"}'}
        ),
        "places": lambda _: prompts.load(("mmhal",), ["a=b"]),
    }
