"""A judge's reply → the phrases that it lists."""

import ast
import json
import re
from collections.abc import Callable

from eval.benchmark import Mode

_TEXT = r"""(?:"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
_LIST = re.compile(rf"\[\s*(?:{_TEXT}(?:\s*,\s*{_TEXT})*\s*,?)?\s*\]")
_FENCE = re.compile(r"```\w*")


def phrases_as_published(reply: str) -> list[str] | None:
    """The reply as JSON; else its last line, where `["` stands anywhere. None: neither.

    An object is as good as the list of its keys, a text as that of its characters. What breaks the original off, None,
    numbers and lists of these, is no reply here.
    """
    try:
        value = json.loads(reply)
    except (ValueError, RecursionError):
        if '["' not in reply:
            return None
        try:
            value = json.loads(reply.strip().split("\n")[-1])
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, (list, dict, str)) or not all(isinstance(phrase, str) for phrase in value):
        return None
    return list(value)


def phrases(reply: str) -> list[str] | None:
    """The last list of texts that a reply holds, wherever it stands: in single quotes too, or with a comma behind its
    last one. `()` alone is the empty list. None: there is none."""
    if re.fullmatch(r"\(\s*\)\.?", _FENCE.sub("", reply).strip()):
        return []
    lists = [found for found in _LIST.finditer(reply) if found[0].strip("[] \n") or not _within(reply, found)]
    for found in (one[0] for one in reversed(lists)):
        try:
            return [_text(quoted) for quoted in re.findall(_TEXT, found)]
        except (ValueError, SyntaxError):
            continue
    return None


def _within(reply: str, found: re.Match[str]) -> bool:
    """Whether a list is part of another value; an empty one then does not say that there are no objects."""
    before, behind = reply[: found.start()].rstrip()[-1:], reply[found.end() :].lstrip()[:1]
    return before in ("[", ",", ":", "{") and behind in ("]", ",", "}")


def _text(quoted: str) -> str:
    return str(json.loads(quoted) if quoted.startswith('"') else ast.literal_eval(quoted))


REPLIES: dict[Mode, Callable[[str], list[str] | None]] = {"compat": phrases_as_published, "fixed": phrases}
