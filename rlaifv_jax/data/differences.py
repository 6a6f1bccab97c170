"""Which tokens of two answers differ: the corrected segments that dense DPO weighs more (arXiv 2312.00849).

    rejected   a  red   circle  in  the  top  left  .        stretches of MIN_MATCH and more equal tokens are unchanged;
    chosen     a  blue  star    in  the  top  left  .        what lies between them is changed where both answers have
                  ~~~~~~~~~~~~                               something there. So added or left-out words do not count.

A token is marked or not; what a mark weighs is decided when batches are made, so another weight needs no new marks.
"""

from dataclasses import dataclass
from difflib import SequenceMatcher

import numpy as np

from rlaifv_jax.data.encode import Encoded

MOST_MEETINGS = 2**17  # of equal tokens in two answers; more have only answers that loop
MIN_MATCH = 3  # equal tokens in a row that count as unchanged
MODES = ("answers", "difflib_autojunk", "padded_batch")

Marks = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Differences:
    """How answers are compared. Picklable; its repr says all that decides the marks.

    mode:
      'answers': the answers' own tokens, and nothing else. Where these say the same over and over, which would take
        minutes, frequent tokens start no match, as in the next mode.
      'difflib_autojunk': whole conversations without their first token, with difflib's shortcut that tokens which are
        frequent in 200 and more start no match (utils/diff_lib.py of RLAIF-V and Muffin). So the prompt matters.
      'padded_batch': the same after the shorter conversation is padded to the longer, as in the original's batches.
    spread_image: whether the original's token lists hold a picture as all of its patches, and not as one placeholder.
    pad: the token of padding.
    """

    mode: str
    spread_image: bool
    pad: int

    def marks(self, encoded: Encoded) -> Marks:
        """Of an encoded pair: bool[targets] for chosen and rejected answer, true for changed tokens."""
        chosen, rejected = encoded.answers
        if self.mode == "answers":
            answers = chosen.tokens[chosen.labels], rejected.tokens[rejected.labels]
            return changed(*answers, autojunk=_meetings(*answers) > MOST_MEETINGS)
        prefix = encoded.prefix
        if self.spread_image:
            prefix = np.repeat(prefix, encoded.widths)
        rows = [np.concatenate([prefix, answer.tokens]) for answer in encoded.answers]
        length = max(map(len, rows)) if self.mode == "padded_batch" else 0
        whole = changed_in_rows(rows[0], rows[1], length=length, pad=self.pad)
        start = len(prefix) - 1
        found = [
            marks[start : start + len(answer.tokens)][answer.labels]
            for marks, answer in zip(whole, encoded.answers, strict=True)
        ]
        return found[0], found[1]


def changed(chosen: np.ndarray, rejected: np.ndarray, *, autojunk: bool) -> Marks:
    """Compare two sequences of tokens: bool of their lengths, true where they differ from each other."""
    marks = np.zeros(len(chosen), bool), np.zeros(len(rejected), bool)
    matcher = SequenceMatcher(None, rejected.tolist(), chosen.tolist(), autojunk)
    here = there = 0  # in rejected and chosen: behind the last unchanged stretch
    for first, second, size in matcher.get_matching_blocks():
        last = size == 0  # difflib ends with an empty block at both ends
        if size < MIN_MATCH and not last:
            continue
        if first > here and second > there:
            marks[0][there:second] = True
            marks[1][here:first] = True
        here, there = first + size, second + size
    return marks


def _meetings(one: np.ndarray, other: np.ndarray) -> int:
    """Pairs of equal tokens: what difflib looks at, once for every stretch that it finds."""
    tokens, counts = np.unique(one, return_counts=True)
    others = dict(zip(*(values.tolist() for values in np.unique(other, return_counts=True)), strict=True))
    return sum(count * others.get(token, 0) for token, count in zip(tokens.tolist(), counts.tolist(), strict=True))


def changed_in_rows(chosen: np.ndarray, rejected: np.ndarray, *, length: int, pad: int) -> Marks:
    """As the original compares two conversations: padded to `length` (if they are shorter), without the first token.

    Returns:
      bool[max(length, own) - 1] for each: the mark at place i is that of token i + 1.
    """
    rows = [np.pad(row, (0, max(length - len(row), 0)), constant_values=pad)[1:] for row in (chosen, rejected)]
    return changed(rows[0], rows[1], autojunk=True)
