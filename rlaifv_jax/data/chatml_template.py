"""How LLaVA-NeXT 34B speaks: ChatML without line breaks between messages (`chatml_direct` in llava/conversation.py).

    <|im_start|>system⏎Answer the questions.<|im_end|><|im_start|>user⏎<image>⏎QUESTION<|im_end|><|im_start|>assistant⏎
    ANSWER<|im_end|><|im_start|>user⏎ …

The two marks are tokens of their own, so that answers and their ends are found among the tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.templates import Template, places
from rlaifv_jax.data.tokenizer import Tokenizer

START, END = "<|im_start|>", "<|im_end|>"
SYSTEM = f"{START}system\n"


@dataclass(frozen=True)
class ChatmlTemplate(Template):
    """A Template whose messages stand between marks."""

    user: str = f"{START}user"
    assistant: str = f"{START}assistant"
    gap: str = END
    end: str = END

    colon: ClassVar[str] = "\n"
    marks: ClassVar[tuple[str, ...]] = (START, END)

    def with_system(self, text: str) -> Self:
        return super().with_system(f"{SYSTEM}{text}")

    def answer_spans(self, tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> list[tuple[int, int]]:
        """From behind every header of an answer to behind the next end mark."""
        gap, header = tokenizer.encode_bare(self.gap), tokenizer.encode_bare(self.answer_header)
        starts = [stop for _, stop in places(ids, header)]
        ends = [stop for _, stop in places(ids, gap)]
        spans = [(start, next((end for end in ends if end > start), len(ids))) for start in starts]
        if not spans or len(spans) != text.count(self.answer_header):
            raise BadRow("label_mismatch", f"the answer's header {self.answer_header!r} is not among the tokens")
        return spans

    def separator_in(self, text: str, role: str) -> str | None:
        return next((mark for mark in self.marks if mark in text), None)


CHATML_DIRECT = ChatmlTemplate("chatml_direct", f"{SYSTEM}Answer the questions.")
