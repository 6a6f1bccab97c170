"""Conversation templates with names, as data.

`llava_v1` is what RLAIF-V trains, generates and chats with (`conv_llava_v1` in muffin/conversation.py);
`vicuna_v1` is what LLaVA-1.5 itself was tuned with. They differ in two words. Muffin's template, ChatML and those that
tokenizers bring along are other kinds, see muffin_template.py, chatml_template.py and chat_template.py; all are a
`Conversation`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, Self

from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.tokenizer import Tokenizer
from rlaifv_jax.errors import UserError

IMAGE_TAG = "<image>"  # in files of questions, and in the text of a conversation


class Turn(NamedTuple):
    """One message of a conversation, without any image placeholder."""

    role: Literal["user", "assistant"]
    text: str


def said_before(history: Iterable[tuple[str, str]]) -> list[Turn]:
    """Turns of questions and their answers. Raises TypeError or ValueError where these are none."""
    return [turn for asked, said in history for turn in (Turn("user", asked + ""), Turn("assistant", said + ""))]


class Conversation(Protocol):
    """How a model's conversations become text, and the text tokens. Implementations are picklable, and their repr says
    all that decides the tokens."""

    @property
    def name(self) -> str: ...

    @property
    def image_tags(self) -> tuple[str, ...]:
        """Texts that would be taken for an image, or a part of its place; all but IMAGE_TAG are special tokens."""

    @property
    def marks(self) -> tuple[str, ...]:
        """Texts that it writes and that have to be one token each, those of pictures aside."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end an answer, where end tokens do not."""

    @property
    def lead(self) -> str:
        """What a model writes before its answer, which is no part of it; '' where the prompt holds all of that."""

    def with_system(self, text: str) -> Self:
        """The same with another text in front of all. Raises `BadRow` where that has no place."""

    def render(self, turns: Sequence[Turn], answer: str, *, image: bool, slices: tuple[int, int] = (0, 0)) -> str:
        """The full text of a conversation that ends in `answer`, as it is trained on; an image's place is in front of
        the first question. slices: columns and rows of slices of the image, for templates that tell of them."""

    def render_prompt(self, turns: Sequence[Turn], *, image: bool, slices: tuple[int, int] = (0, 0)) -> str:
        """The text to generate from; most templates begin `render` with it, some ask in another layout."""

    def tokenize(self, tokenizer: Tokenizer, text: str) -> list[int]:
        """Ids of such a text, IMAGE_TOKEN where the image stands."""

    def answer_spans(self, tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> list[tuple[int, int]]:
        """Where in `ids` of a full text the answers' tokens stand, end tokens included: (first, behind the last).

        Raises `BadRow` for a text in which they cannot be found.
        """

    def separator_in(self, text: str, role: str) -> str | None:
        """What in a message would be taken for a part of the template, if anything."""

    def closing(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """Tokens that end an answer together, as `stop` does among texts; none where an end token does."""


@dataclass(frozen=True)
class Template:
    """`{system}{gap}USER: {question}{gap}ASSISTANT: {answer}{end}USER: …` with the two roles' names. colon: what
    stands between a name and what is said."""

    name: str
    system: str
    user: str = "USER"
    assistant: str = "ASSISTANT"
    gap: str = " "  # after the system text and after every user turn
    end: str = "</s>"  # after every assistant turn

    colon: ClassVar[str] = ": "
    marks: ClassVar[tuple[str, ...]] = ()
    stop = ()
    lead = ""

    @property
    def image_tags(self) -> tuple[str, ...]:
        return (IMAGE_TAG,)

    @property
    def answer_header(self) -> str:
        """What separates a question from its answer, blank included: the label mask is found by it."""
        return f"{self.gap}{self.assistant}{self.colon}"

    @property
    def asking(self) -> str:
        """What waits for an answer: the assistant's name and colon, without a trailing blank."""
        return f"{self.assistant}{self.colon}".rstrip(" ")

    def with_system(self, text: str) -> Self:
        return replace(self, system=text)

    def render(self, turns: Sequence[Turn], answer: str, *, image: bool, slices: tuple[int, int] = (0, 0)) -> str:
        return self._turns([*turns, Turn("assistant", answer)], image)

    def render_prompt(self, turns: Sequence[Turn], *, image: bool, slices: tuple[int, int] = (0, 0)) -> str:
        return self._turns(turns, image) + self.asking

    def _turns(self, turns: Sequence[Turn], image: bool) -> str:
        text = self.system + self.gap
        for number, turn in enumerate(turns):
            if turn.role == "user":
                tag = f"{IMAGE_TAG}\n" if image and number == 0 else ""
                text += f"{self.user}{self.colon}{tag}{turn.text}{self.gap}"
            else:
                text += f"{self.assistant}{self.colon}{turn.text}{self.end}"
        return text

    def tokenize(self, tokenizer: Tokenizer, text: str) -> list[int]:
        """The chunks between image tags are tokenised apart, BOS is kept once (`tokenizer_image_token`)."""
        bos = tokenizer.bos_id
        ids: list[int] = []
        for number, chunk in enumerate(text.split(IMAGE_TAG)):
            chunk_ids = tokenizer.encode(chunk)
            if number:
                ids.append(IMAGE_TOKEN)
                if bos is not None and chunk_ids[:1] == [bos]:
                    chunk_ids = chunk_ids[1:]
            ids += chunk_ids
        return ids

    def answer_spans(self, tokenizer: Tokenizer, text: str, ids: Sequence[int]) -> list[tuple[int, int]]:
        """By the original's count (`preprocess_v1`).

        Position 1 follows BOS. A round ("USER: … ASSISTANT: …") tokenised alone has a BOS of its own, which
        makes up for the end token that the split took away. Its instruction ends two tokens before its own
        length: one for that BOS, one for the blank after "ASSISTANT:", which in the full text is part of the
        answer's first word.
        """
        header = self.answer_header
        # After an end token a tokenizer that is not legacy adds no dummy blank, which a round alone does get.
        surplus = 0 if tokenizer.legacy else 1
        spans, position = [], 1
        for number, round_text in enumerate(filter(None, text.split(self.end))):
            question, _, answer = round_text.partition(header)
            if not answer:
                raise BadRow("label_mismatch", f"round {number} has no answer")
            extra = surplus if number else 0
            length = len(self.tokenize(tokenizer, round_text)) - extra
            instruction = len(self.tokenize(tokenizer, question + header)) - 2 - extra
            spans.append((position + instruction, position + length))
            position += length
        # The original takes every unknown token for padding, which shows here.
        counted = sum(token != tokenizer.pad_id for token in ids)
        if position != counted:
            raise BadRow("label_mismatch", f"{position} tokens by rounds, {counted} in the whole")
        return spans

    def separator_in(self, text: str, role: str) -> str | None:
        """Rounds and answers are found by splitting the text at these strings."""
        header = self.answer_header
        # Followed by its own header, a question ending in " ASSISTANT:" would move the cut.
        whole = text + header[:-1] if role == "user" else text
        return next((mark for mark in (self.end, header) if mark in whole), None)

    def closing(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        return ()


def with_image(ids: Sequence[int], tokenizer: Tokenizer, patch: str) -> list[int]:
    """Ids in which the special token `patch` has become the image."""
    (token,) = tokenizer.encode_bare(patch)
    return [IMAGE_TOKEN if number == token else number for number in ids]


def without_tags(tags: Sequence[str], text: str) -> str:
    """Question files may hold the image's tag, which the template places itself."""
    while found := [tag for tag in tags if tag in text]:  # taking one out may put together another
        text = text.replace(found[0], "").strip()
    return text


def places(ids: Sequence[int], wanted: Sequence[int]) -> list[tuple[int, int]]:
    """Where `wanted` stands in `ids`: (first, behind the last)."""
    length = len(wanted)
    found = [place for place in range(len(ids) - length + 1) if list(ids[place : place + length]) == list(wanted)]
    return [(place, place + length) for place in found]


def knows(tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text is one token, special or not."""
    ids = tokenizer.encode_bare(text)
    return len(ids) == 1 and ids[0] != tokenizer.pad_id


def check_tokens(tokenizer: Tokenizer, tokens: Sequence[str], where: Any) -> None:
    """Raises `UserError` where a tokenizer lacks special tokens that stand for a picture."""
    if missing := [token for token in tokens if token not in tokenizer.special_tokens]:
        raise UserError(
            f"{where}: the tokenizer has no {' and no '.join(missing)}, which stand for a picture; its "
            "added_tokens.json or tokenizer_config.json is not that of the published model; fetch it again"
        )


LLAVA_V1 = Template(
    name="llava_v1",
    system="A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions.",
)
VICUNA_V1 = Template(
    name="vicuna_v1",
    system="A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.",
)
TEMPLATES = {template.name: template for template in (LLAVA_V1, VICUNA_V1)}
