"""Lists out of what a language model has written."""

import re

_BULLET = re.compile(
    r"\s*(?:[-–—•‣◦∙·▪●]\s*|[*+]\s+|\(?\d{1,3}[.)]\s+|\[\d{1,3}\]\s+)(?P<item>.*)"  # dashes as written
)


def read_bullets(text: str, *, complete: bool = True) -> list[str]:
    """The items of a list, whatever its bullets; headings and what is said around the list are left out.

    A line below an item, without a bullet and without an empty line between, goes on with it. A text without any
    bullet is a list of its lines. Items without text are left out.

    Args:
      complete: False where the text was cut off at its end, so that its last item is a part of one and is left out.
    """
    items: list[str] = []
    plain: list[str] = []
    open_item = False
    for line in text.splitlines():
        found = _BULLET.fullmatch(line)
        words = line.strip()
        if words.startswith("#") or not words:
            open_item = False
        elif found:
            items.append(found["item"].strip())
            open_item = True
        elif open_item:
            items[-1] = f"{items[-1]} {words}".strip()
        else:
            plain.append(words)
    items = items or [line for line in plain if not line.strip("*").endswith(":")]
    return [item for item in (items if complete else items[:-1]) if item]


def read_bullets_legacy(text: str) -> list[str]:
    """As the original reads them (get_facts in utils/llama3_8b_inference.py of RLAIF-V).

    Lines with `###` are left out, of every other line the first letter is, bullet or not.
    """
    lines = [line for line in text.strip().split("\n") if line != "" and "###" not in line]
    return [line[1:].strip() for line in lines]
