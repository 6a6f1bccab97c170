"""How Muffin and RLHF-V speak: rounds that are led by '###' (conv_v1_2 in muffin/conversation.py).

What they are trained on and what they are asked are two layouts:

    trained: SYSTEM, a blank line, then a line for every turn, and the opening of a next one:
             ### Human: <im_start>…<im_end>          preprocess, muffin/train/train_utils.py
             QUESTION
             ### Assistant: ANSWER
             ###
    asked:   SYSTEM                                  wrap_question_with_default_conv, muffin/eval/muffin_vqa.py
             ###Human: QUESTION
             <im_start>…<im_end>
             ###                                     the model writes ' Assistant: ANSWER' and the next '###' itself

A second question is asked in the layout of training, as MuffinForMultiTurnChat does (muffin/eval/muffin_chat.py), with
the picture still there, which that class leaves out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.templates import IMAGE_TAG, LLAVA_V1, Turn, places, with_image
from rlaifv_jax.data.tokenizer import Tokenizer

TOKENS = ("<im_start>", "<im_patch>", "<im_end>")
PICTURE = "".join(TOKENS)  # the one patch stands for all
MARK = "###"  # leads every turn, and so ends the one before
ROLES = {"user": "Human", "assistant": "Assistant"}


@dataclass(frozen=True)
class MuffinTemplate:
    """See rlaifv_jax.data.templates.Conversation."""

    name: str
    system: str

    marks = ()
    stop = (MARK,)
    lead = f"{ROLES['assistant']}:"
    image_tags = (IMAGE_TAG, *TOKENS)

    def with_system(self, text: str) -> Self:
        return replace(self, system=text)

    def render(self, turns: Sequence[Turn], answer: str, *, image: bool, slices: tuple[int, int] = (0, 0)) -> str:
        return self._turns([*turns, Turn("assistant", answer)], image) + f"{MARK} "

    def render_prompt(self, turns: Sequence[Turn], *, image: bool, slices: tuple[int, int] = (0, 0)) -> str:
        if len(turns) > 1:
            return self._turns(turns, image) + MARK
        picture = f"\n{PICTURE}" if image else ""
        return f"{self.system}\n{MARK}{ROLES['user']}: {turns[0].text}{picture}\n{MARK}"

    def _turns(self, turns: Sequence[Turn], image: bool) -> str:
        lines = [f"{self.system}\n"]
        for number, turn in enumerate(turns):
            picture = f"{PICTURE}\n" if image and number == 0 else ""
            lines.append(f"{_header(turn.role)} {picture}{turn.text}")
        return "\n".join(lines) + "\n"

    def tokenize(self, tokenizer: Tokenizer, text: str) -> list[int]:
        """The text as a whole; the token of the patch becomes the image."""
        return with_image(tokenizer.encode(text), tokenizer, TOKENS[1])

    def answer_spans(self, tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> list[tuple[int, int]]:
        """From the header of every answer to behind the mark that ends it; of the last one to the end.

        The labels of the original (`_mask_targets`) but for one place, see docs/parity.md: there the mark of every
        question is a label, also that of the first one, which no answer comes before.
        """
        header, mark = _header("assistant"), len(_line(tokenizer, MARK))
        questions, answers = (
            [start for start, _ in places(ids, _line(tokenizer, _header(role)))] for role in ("user", "assistant")
        )
        if not answers or len(answers) != text.count(f"\n{header} "):
            raise BadRow("label_mismatch", f"the answer's header {header!r} is not among the tokens")
        ends = [min((place + mark for place in questions if place > start), default=len(ids)) for start in answers]
        return list(zip(answers, ends, strict=True))

    def separator_in(self, text: str, role: str) -> str | None:
        return next((header for header in map(_header, ROLES) if header in text), None)

    def closing(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        return tuple(_line(tokenizer, MARK))


def _header(role: str) -> str:
    return f"{MARK} {ROLES[role]}:"


def _line(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of a text that begins a line."""
    return tokenizer.encode_bare("\n" + text)[len(tokenizer.encode_bare("\n")) :]


MUFFIN = MuffinTemplate("muffin", LLAVA_V1.system)
