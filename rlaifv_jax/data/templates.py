"""Conversation templates, as data.

`llava_v1` is what RLAIF-V trains, generates and chats with (`conv_llava_v1` in muffin/conversation.py);
`vicuna_v1` is what LLaVA-1.5 itself was tuned with. They differ in two words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rlaifv_jax.errors import UserError

IMAGE_TAG = "<image>"


class Turn(NamedTuple):
    """One message of a conversation, without any image placeholder."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Template:
    """`{system}{gap}USER: {question}{gap}ASSISTANT: {answer}{end}USER: …` with the two roles' names."""

    name: str
    system: str
    user: str = "USER"
    assistant: str = "ASSISTANT"
    gap: str = " "  # after the system text and after every user turn
    end: str = "</s>"  # after every assistant turn

    @property
    def answer_header(self) -> str:
        """What separates a question from its answer, blank included: the label mask is found by it."""
        return f"{self.gap}{self.assistant}: "


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


def get_template(name: str) -> Template:
    """Return the template called `name`; `UserError` with the known names otherwise."""
    if name not in TEMPLATES:
        raise UserError(f"template {name!r} is not known; choose one of: {', '.join(sorted(TEMPLATES))}")
    return TEMPLATES[name]


def render(template: Template, turns: Sequence[Turn], answer: str, *, image: bool) -> str:
    """The full text of a conversation that ends in `answer`; an image's tag leads the first question."""
    return _render_turns(template, [*turns, Turn("assistant", answer)], image)


def render_prompt(template: Template, turns: Sequence[Turn], *, image: bool) -> str:
    """The text to generate from: up to the assistant's name and colon, without a trailing blank."""
    return _render_turns(template, turns, image) + f"{template.assistant}:"


def _render_turns(template: Template, turns: Sequence[Turn], image: bool) -> str:
    text = template.system + template.gap
    for number, turn in enumerate(turns):
        if turn.role == "user":
            tag = f"{IMAGE_TAG}\n" if image and number == 0 else ""
            text += f"{template.user}: {tag}{turn.text}{template.gap}"
        else:
            text += f"{template.assistant}: {turn.text}{template.end}"
    return text
