"""The page of a run: scores.json and items.jsonl → index.html beside them, with small pictures in pictures/."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.cards import cards, labels, sorts
from rlaifv_jax import __version__
from rlaifv_jax.errors import UserError
from rlaifv_jax.pages import number, render
from rlaifv_jax.records.settings import write_whole

PAGE, SCORES, ITEMS, PICTURES = "index.html", "scores.json", "items.jsonl", "pictures"
MODES = {"compat": "compat, as published with its faults", "fixed": "fixed, the faults of the published one mended"}
HASH = 12  # characters of a hash that are shown
Json = dict[str, Any]


@dataclass(frozen=True)
class Metric:
    """direction: in words, '' where there is none. spread: between runs, None of a single one."""

    name: str
    value: Any
    direction: str
    interval: Sequence[float | None] | None
    spread: float | None
    runs: Sequence[Any]


@dataclass(frozen=True)
class Fact:
    """code: whether it is a name for machines. full: what `text` is the beginning of."""

    name: str
    text: str
    code: bool = False
    full: str = ""


def write_page(directory: Path, data: Path | None = None) -> Path:
    """Write the page of the run in `directory`.

    Args:
      data: where relative paths of pictures start, a folder or a file in it. Without it, only base64 and whole paths
        are opened.

    Raises:
      UserError: scores.json or items.jsonl is missing or damaged.
    """
    scores = _read(directory / SCORES)
    folder = data.parent if data is not None and data.is_file() else data
    items = cards(_read_items(directory / ITEMS), folder, directory / PICTURES)
    metrics = _metrics(scores)
    runs = len(scores.get("runs") or []) or 1
    headline = [metrics[name] for name in scores.get("headline") or [] if name in metrics]
    others = [metric for metric in metrics.values() if runs > 1 or metric not in headline]
    page = render(
        "eval_run.html.j2",
        version=str(scores.get("version") or __version__),
        title=str(scores.get("title") or scores.get("benchmark") or "Evaluation"),
        lead=_lead(scores, runs),
        headline=headline,
        metrics=others,
        intervals=any(metric.interval for metric in others),
        runs=runs,
        n=number(scores.get("n")),
        n_failed=number(scores.get("n_failed")),
        warnings=list(_warnings(scores, items)),
        made_with=list(_made_with(scores, items)),
        categories=sorted({item["category"] or "none" for item in items}),
        item_runs=sorted({item["run"] for item in items}),
        labels=labels(items),
        sorts=sorts(items),
        items=items,
    )
    write_whole(directory / PAGE, [page])
    return directory / PAGE


def _parse(text: str, where: str) -> Json:
    try:
        value = json.loads(text, parse_constant=lambda _: None)  # NaN, which a browser does not read
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: is no JSON ({error}); score the answers again") from None
    if not isinstance(value, dict):
        raise UserError(f"{where}: is {type(value).__name__}; an object is needed; score the answers again")
    return value


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {error}; python -m eval run writes it") from None


def _read(file: Path) -> Json:
    return _parse(_text(file), str(file))


def _read_items(file: Path) -> Iterator[Json]:
    for place, line in enumerate(_text(file).split("\n"), 1):
        if line.strip():
            yield _parse(line, f"{file}, line {place}")


def _metrics(scores: Json) -> dict[str, Metric]:
    words: dict[Any, str] = {True: "higher is better", False: "lower is better"}
    better, intervals, spread = (scores.get(key) or {} for key in ("higher_is_better", "intervals", "spread"))
    return {
        name: Metric(
            name,
            value,
            words.get(better.get(name), ""),
            intervals.get(name),
            spread.get(name),
            [run.get(name) for run in scores.get("runs") or []],
        )
        for name, value in (scores.get("metrics") or {}).items()
    }


def _lead(scores: Json, runs: int) -> str:
    failed = scores.get("n_failed") or 0
    parts = [f"{number(scores.get('n'))} items", f"{failed} failed" if failed else "none failed"]
    return ", ".join(parts + ([f"{runs} runs"] if runs > 1 else [])) + "."


def _warnings(scores: Json, items: Sequence[Json]) -> Iterator[str]:
    if scores.get("extractor") and scores.get("extractor_is_reference") is False:
        yield f"Nouns come from {scores['extractor']}, not from the extractor of the published figures."
    asked = (scores.get("judge") or {}).get("model")
    others = [name for name in _returned(items) if name != asked]
    if asked and others:
        yield f"The judge asked for is {asked}; what answered called itself {', '.join(others)}."
    if missing := sum(item["missing"] for item in items):
        yield f"{missing} of {len(items)} pictures could not be opened."
    yield from map(str, scores.get("notes") or [])


def _returned(items: Sequence[Json]) -> Counter[str]:
    """Names that judges gave themselves → their replies."""
    return Counter(str(reply["model"]) for item in items for reply in item["replies"] if reply.get("model"))


def _made_with(scores: Json, items: Sequence[Json]) -> Iterator[Fact]:
    mode = str(scores.get("mode") or "–")
    yield Fact("Mode", MODES.get(mode, mode))
    yield from _judge(scores.get("judge"), items)
    if extractor := scores.get("extractor"):
        reference: dict[Any, str] = {True: ", the reference", False: ", not the reference"}
        yield Fact("Extractor", f"{extractor}{reference.get(scores.get('extractor_is_reference'), '')}")
    hashes = scores.get("hashes") or {}
    for stage, digest in (hashes.get("prompts") or {}).items():
        origin = (scores.get("prompts") or {}).get(stage, "–")
        yield Fact(f"Prompt {stage}", "this project's own wording" if origin == "packaged" else str(origin))
        yield _hash("its SHA-256", digest)
    if scores.get("swapped"):
        yield Fact("Order", "both answers first in turn, and averaged")
    yield from _answers(scores)
    for name, digest in hashes.items():
        if name != "prompts":
            yield _hash(f"{name.capitalize()}, SHA-256", digest)


def _answers(scores: Json) -> Iterator[Fact]:
    """Where they are from, and how they were made if this project made them."""
    if file := scores.get("answers"):
        yield Fact("Answers", str(file))
    if made := scores.get("generation"):
        yield Fact(
            "Answered by", ", ".join(f"{_words(name)} {value}" for name, value in made.items() if _is_set(value))
        )


def _judge(judge: Mapping[str, Any] | None, items: Sequence[Json]) -> Iterator[Fact]:
    if not judge:
        yield Fact("Judge", "none")
        return
    yield Fact("Judge requested", str(judge.get("model") or "–"))
    if returned := _returned(items):
        yield Fact("Judge returned", ", ".join(f"{name} ({count})" for name, count in returned.most_common()))
    for name, value in judge.items():
        if name not in ("model", "returned") and _is_set(value):
            yield Fact(f"Judge {_words(name)}", "yes" if value is True else str(value))


def _is_set(value: Any) -> bool:
    """Zero is a setting, too."""
    return value not in (None, "") and value is not False


def _words(name: str) -> str:
    return name.replace("_", " ")


def _hash(name: str, digest: Any) -> Fact:
    return Fact(name, str(digest)[:HASH], code=True, full=str(digest))
