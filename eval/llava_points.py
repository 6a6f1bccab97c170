"""What points a judge gives to two answers."""

import math
import re

Points = tuple[float, float]  # of the answer that stands first, and of the second
UNREAD: Points = (-1.0, -1.0)

_NUMBER = r"\d+(?:\.\d+)?"
_LABEL = re.compile(r"\b(?:assistant|answer|response)\s*#?\s*([12])\b(?:'s)?", re.IGNORECASE)
_OF_TEN = re.compile(r"(?:/|\bout of\b)\s*10\b(?:\s*points?\b)?", re.IGNORECASE)
_FILLER = re.compile(
    r"\b(?:scores?|ratings?|points?|and|for|the|are|is|overall|respectively)\b|[^\w.]|_", re.IGNORECASE
)
_TWO = re.compile(rf"({_NUMBER})\.?\s+({_NUMBER})\.?")
_ONE = re.compile(rf"({_NUMBER})\.?")


def points_as_published(reply: str) -> Points | None:
    parts = reply.split("\n")[0].replace(",", " ").split(" ")
    try:
        first, second = map(float, parts)
    except ValueError:  # other than two parts, or other than numbers
        return UNREAD
    return (first, second) if math.isfinite(first) and math.isfinite(second) else UNREAD


def points(reply: str) -> Points | None:
    """The last two numbers that have a line, or a line each with its assistant's name, for themselves."""
    found: Points | None = None
    single: dict[str, float] = {}
    for line in reply.split("\n"):
        labels = _LABEL.findall(line)
        bare = _FILLER.sub(" ", _OF_TEN.sub(" ", _LABEL.sub(" ", line))).strip()
        if (two := _TWO.fullmatch(bare)) and labels in ([], ["1", "2"]):
            found = float(two[1]), float(two[2])
        elif two and labels == ["2", "1"]:
            found = float(two[2]), float(two[1])
        elif len(labels) == 1 and (one := _ONE.fullmatch(bare)):
            single[labels[0]] = float(one[1])
            if len(single) == 2:
                found, single = (single["1"], single["2"]), {}
    return found if found and all(1 <= value <= 10 for value in found) else None
