"""Yes or no, as a model may put it."""

import re

YES, NO = "yes", "no"
_SAYS = {**dict.fromkeys(("yes", "yeah", "yep", "yup"), YES), **dict.fromkeys(("no", "nope", "nah"), NO)}
_UNSURE = re.compile(
    r"\b(cannot|can't|can not|could not|couldn't|unable|unsure|unclear|unknown|uncertain|ambiguous|impossible)\b"
    r"|\bnot (sure|clear|certain|possible|enough)\b|\b(do not|don't) know\b|\bhard to (say|tell)\b"
)
_DENIES = re.compile(r"\b(not|no|none|neither|never|without)\b|n't\b")
_STATES = re.compile(r"^\W*(there (is|are|was|were)|there's|i (can )?see|the (image|picture|photo) (shows|contains))\b")


def yes_or_no(text: str) -> str | None:
    """YES or NO, None where an answer is neither.

    The first word decides where it is one of them. Otherwise the first sentence does: what doubts is neither, what
    says yes and no as well, what denies is NO, and what states that something is there is YES.
    """
    lower = text.lower().replace("’", "'").replace("*", "").replace("_", " ")
    words = re.findall(r"[a-z']+", lower)
    if not words:
        return None
    if words[0] in _SAYS:
        return _SAYS[words[0]]
    sentence = re.split(r"[.!?\n]", lower.strip(), maxsplit=1)[0]
    if _UNSURE.search(sentence):
        return None
    said = {_SAYS[word] for word in re.findall(r"[a-z']+", sentence) if word in _SAYS}
    if len(said) == 2:
        return None
    if _DENIES.search(sentence):
        return None if YES in said else NO
    return said.pop() if said else YES if _STATES.search(sentence) else None
