"""A conversation template that a model's tokenizer brings along, written in Jinja.

How OmniLMM and MiniCPM-V speak. The label rule is that of `omni_preprocess` (omnilmm/train/train_utils.py of RLAIF-V),
found for any template whose messages end in the end token.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, Self

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.templates import IMAGE_TAG, Turn, check_tokens, places, with_image
from rlaifv_jax.data.tokenizer import Tokenizer
from rlaifv_jax.errors import UserError

OWN = "the tokenizer's own"  # name of all such templates
PROBE = "\x01" + "Ab, " * 60 + "\x01"  # a message that is in no text, and shows what a template changes or cuts


class Speech(NamedTuple):
    """What a family adds to the template of its tokenizer.

    system: first message of every conversation, if any. tokens: what shows a picture; of them `patch` stands for the
    picture itself, however many positions that will take. around_slices: tokens before and behind the slices that a
    large picture is cut into; () in families that tell nothing of them. adds_bos: whether BOS leads texts in which the
    template writes none.
    """

    system: str = ""
    tokens: tuple[str, ...] = ()
    patch: str = ""
    around_slices: tuple[str, str] | tuple[()] = ()
    adds_bos: bool = False

    def picture(self, slices: tuple[int, int]) -> str:
        """What stands above the first question. slices: columns and rows of slices."""
        whole, (columns, rows) = "".join(self.tokens), slices
        if not (self.around_slices and columns):
            return whole
        before, behind = self.around_slices
        return whole + before + "\n".join([whole * columns] * rows) + behind


@dataclass(frozen=True)
class ChatTemplate:
    """See rlaifv_jax.data.templates.Conversation. source: Jinja. named: special tokens by name. end: text of the token
    behind every answer."""

    source: str
    named: tuple[tuple[str, str], ...]
    end: str
    speech: Speech

    name = OWN
    marks = ()
    stop = ()
    lead = ""

    @classmethod
    def of(cls, tokenizer: Tokenizer, speech: Speech, where: Any) -> "ChatTemplate":
        """The template of a tokenizer.

        Raises:
          UserError: it has none, one that cannot be used, or no tokens for images.
        """
        if not tokenizer.chat_template:
            way_out = "name the conversation template that it was trained with"
            if speech.tokens:
                way_out = (
                    "put the published model's into tokenizer_config.json ('chat_template') or chat_template.jinja"
                )
            raise UserError(f"{where} holds no chat template; {way_out}")
        check_tokens(tokenizer, (*speech.tokens, *speech.around_slices), where)
        bare = cls(tokenizer.chat_template, tokenizer.named_tokens, "", speech)
        try:
            behind, _ = bare.between
        except (BadRow, ValueError) as error:
            detail = error.detail if isinstance(error, BadRow) else error
            raise UserError(
                f"{where}: the tokenizer's chat template cannot be used: {detail}; choose another template"
            ) from None
        end = max((token for token in tokenizer.special_tokens if behind.startswith(token)), key=len, default="")
        found = replace(bare, end=end)
        if speech.tokens and (fault := found._fault()):
            raise UserError(f"{where}: the tokenizer's chat template cannot be used: {fault}; choose another template")
        return found

    def _fault(self) -> str:
        """Why pictures, labels or prompts would come out wrong; '' for a template that does what a family counts on."""
        turns, (question, answer), slices = (Turn("user", PROBE),), self.headers, (2, 2)
        whole = self.render(turns, PROBE, image=True, slices=slices)
        prompt, picture = self.render_prompt(turns, image=True, slices=slices), self.speech.picture(slices)
        if self.speech.system not in whole:
            return "it leaves out the system message"
        if picture not in whole or any(whole.count(token) != picture.count(token) for token in self.speech.tokens):
            return (
                f"it does not write {''.join(self.speech.tokens)} as it is, and no more often than there are pictures"
            )
        if not self.end:
            return "no end token follows an answer"
        if not answer.strip() or not question.strip() or question == answer:
            return "the headers of questions and answers are not to be told apart"
        behind = whole.removeprefix(prompt.rstrip())
        if behind == whole or not behind.lstrip().startswith(PROBE):
            return "what it writes where an answer is waited for does not lead answers"
        return ""

    # ---------------------------------------------------------------- text

    def with_system(self, text: str) -> Self:
        found = replace(self, speech=self.speech._replace(system=text))
        if text and text not in found.render_prompt([Turn("user", PROBE)], image=False):
            raise BadRow("turn_order", "the chat template leaves out the system message")
        return found

    def render(self, turns: Sequence[Turn], answer: str, *, image: bool, slices: tuple[int, int] = (0, 0)) -> str:
        """Blanks behind the last end token are no part of it, and no header of a next answer."""
        text = self._render([*turns, Turn("assistant", answer)], image, slices, waiting=False)
        return text.rstrip().removesuffix(self._surplus)

    def render_prompt(self, turns: Sequence[Turn], *, image: bool, slices: tuple[int, int] = (0, 0)) -> str:
        return self._render(turns, image, slices, waiting=True)

    def _render(self, turns: Sequence[Turn], image: bool, slices: tuple[int, int], *, waiting: bool) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        messages = [{"role": "system", "content": self.speech.system}] if self.speech.system else []
        for number, turn in enumerate(turns):
            opening = self.speech.picture(slices) + "\n" if image and number == 0 else ""
            messages.append({"role": turn.role, "content": opening + turn.text})
        try:
            named: dict[str, Any] = dict(self.named)
            found: Any = render_jinja_template(
                conversations=[messages], chat_template=self.source, add_generation_prompt=waiting, **named
            )
        except Exception as error:  # Jinja's own, and what templates raise themselves
            raise BadRow("turn_order", f"the chat template refuses it: {error}") from None
        return str(found[0][0])

    # ---------------------------------------------------------------- tokens

    def tokenize(self, tokenizer: Tokenizer, text: str) -> list[int]:
        """The text as a whole; the token of a patch becomes the image."""
        ids = tokenizer.encode_bare(text)
        if self.speech.adds_bos and tokenizer.bos_id is not None and ids[:1] != [tokenizer.bos_id]:
            ids = [tokenizer.bos_id, *ids]
        return with_image(ids, tokenizer, self.speech.patch) if self.speech.patch else ids

    def answer_spans(self, tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> list[tuple[int, int]]:
        """From behind every header of an answer to the header of the next question, or the end."""
        questions, answers = (places(ids, self._ids(tokenizer, header)) for header in self.headers)
        if not answers:
            raise BadRow("label_mismatch", f"the answer's header {self.headers[1]!r} is not among the tokens")
        starts = [stop for _, stop in answers]
        return [(start, min((q for q, _ in questions if q >= start), default=len(ids))) for start in starts]

    def _ids(self, tokenizer: Tokenizer, header: str) -> list[int]:
        """Tokens of a header as it stands in a text: behind an end token."""
        return tokenizer.encode_bare(self.end + header)[len(tokenizer.encode_bare(self.end)) :]

    @cached_property
    def _parts(self) -> list[str]:
        """What stands before, between and behind two questions and their answers."""
        turns = [Turn(role, PROBE) for role in ("user", "assistant") * 2]
        parts = self._render(turns, False, (0, 0), waiting=False).split(PROBE)
        if len(parts) != 5:
            raise ValueError("it does not write every message as it is")
        return parts

    @property
    def between(self) -> tuple[str, str]:
        """What stands between an answer and the next question, and between a question and its answer."""
        return self._parts[2], self._parts[1]

    @property
    def _surplus(self) -> str:
        """An answer's header behind the last answer, in templates that write it whether or not one is waited for."""
        header = self.headers[1].rstrip()
        return header if self._parts[4].rstrip().endswith(header) else ""

    @property
    def image_tags(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((IMAGE_TAG, *self.speech.tokens, *self.speech.around_slices)))

    @property
    def headers(self) -> tuple[str, str]:
        """What leads a question, the first one aside, and an answer."""
        question, answer = (text.removeprefix(self.end) for text in self.between)
        return question, answer

    def separator_in(self, text: str, role: str) -> str | None:
        return next((mark for mark in self.headers if mark.strip() and mark.strip() in text), None)

    def closing(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        return ()
