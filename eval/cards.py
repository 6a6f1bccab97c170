"""The items of a run as its page shows them: a card for each, with a label for what was found and a small picture."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlaifv_jax.pages.thumbnail import write_thumbnail

LABELS = ("hallucinated", "wrong", "clean", "right", "scored", "failed")
HALLUCINATED_BELOW = 3  # scores from 0 to 6, as MMHal-Bench has them
Json = dict[str, Any]


def label(item: Mapping[str, Any]) -> str:
    """What was found about an answer, one of LABELS: the page shows it, filters by it, and knows no other rule.

    'wrong' and 'right' are of questions with a key. 'scored' is an answer about which nothing says whether it
    hallucinates.
    """
    values = item.get("values") or {}
    score, right = _number(values.get("score")), values.get("right")
    if item.get("failed"):
        return "failed"
    if item.get("marked") or values.get("hallucinated") or (score is not None and score < HALLUCINATED_BELOW):
        return "hallucinated"
    if right is not None:
        return "right" if right else "wrong"
    return "clean" if "hallucinated" in values or score is not None else "scored"


def cards(items: Iterable[Json], data: Path | None, pictures: Path) -> list[Json]:
    """Lines of items.jsonl → what the page is given, without the pictures, which go to the folder `pictures`.

    Their labels are '' where they would all say the same, 'scored'.
    """
    shown = [_card(item, data, pictures) for item in items]
    several = len({card["run"] for card in shown}) > 1
    words = any(card["marked"] for card in shown)  # then they are looked for, and an answer without one is clean
    telling = any(card["label"] != "scored" for card in shown)
    for card in shown:
        card["several"] = several
        if card["label"] == "scored":
            card["label"] = "clean" if words else "scored" if telling else ""
    return shown


def labels(shown: Sequence[Json]) -> list[str]:
    """Those that occur."""
    found = {card["label"] for card in shown}
    return [one for one in LABELS if one in found]


def sorts(shown: Sequence[Json]) -> dict[str, str]:
    """What can be sorted by, besides the id: the names that pages/eval_run.js knows → words."""
    words: dict[str, str] = {}
    if any(card["score"] is not None for card in shown):
        words |= {"low": "score, lowest first", "high": "score, highest first"}
    if any(card["marked"] for card in shown):
        words["marked"] = "hallucinated words, most first"
    return words | {"long": "answer, longest first", "short": "answer, shortest first"}


def _card(item: Json, data: Path | None, pictures: Path) -> Json:
    image, image_id = str(item.get("image") or ""), str(item.get("image_id") or "")
    link = next((text for text in (image, image_id) if _is_address(text)), "")
    picture = item.get("picture")
    if image and not picture and not _is_address(image):
        picture = write_thumbnail(image, data, pictures)
    return {
        "id": str(item.get("id", "")),
        "run": item.get("run") or 0,
        "category": str(item.get("category") or ""),
        "question": str(item.get("question") or ""),
        "answer": str(item.get("answer") or ""),
        "image_id": "" if _is_address(image_id) else image_id,
        "picture": picture,
        "link": link,
        "missing": bool(image) and not picture and not _is_address(image),
        "label": label(item),
        "score": _number((item.get("values") or {}).get("score")),
        "marked": [str(word) for word in item.get("marked") or []],
        "failed": str(item.get("failed") or ""),
        "values": item.get("values") or {},
        "counts": {name: count for name, count in (item.get("counts") or {}).items() if count},
        "replies": item.get("replies") or [],
    }


def _is_address(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
