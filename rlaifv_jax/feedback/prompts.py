"""What the models of the feedback stages are asked, from template files.

A template is a text file with {names} to be filled in; braces around anything else stay as they are. Those that come
with this package are the protocol strings that the published split and question models were tuned with
(utils/llama3_8b_inference.py of RLAIF-V) and what the original asks its labelers.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rlaifv_jax.errors import UserError

FOLDER = Path(__file__).parent / "prompts"
FIELDS = {"split": ("question", "answer"), "question": ("claims",), "check": ("question",)}


@dataclass(frozen=True)
class Template:
    """text: with the names of `fields` in braces."""

    text: str
    fields: tuple[str, ...]

    def fill(self, **values: str) -> str:
        pattern = "|".join(map(re.escape, self.fields))
        return re.sub(rf"\{{({pattern})\}}", lambda found: values[found[1]], self.text)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def load(kind: str, file: str = "") -> Template:
    """The template of a kind (a key of FIELDS), from `file` or the one of this package. Its last line break is dropped.

    Raises:
      UserError: no such file, or it lacks a name that has to be filled in.
    """
    path = Path(file) if file else FOLDER / f"{kind}.txt"
    try:
        text = path.read_text("utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"prompt: {path} cannot be read: {error}; give a text file") from None
    for name in FIELDS[kind]:
        if f"{{{name}}}" not in text:
            raise UserError(f"prompt: {path} has no {{{name}}}, where the {name} would go")
    return Template(text, FIELDS[kind])


def split_prompt(template: Template, question: str, answer: str, pieces: int) -> tuple[str, bool]:
    """What the split model is asked, cut as the original cuts it: to so many pieces between single blanks (0: not).

    Returns:
      the text, and whether something was cut off it.
    """
    text = template.fill(question=question, answer=answer)
    parts = text.split(" ")
    if not pieces or len(parts) <= pieces:
        return text, False
    return " ".join(parts[:pieces]), True


def question_prompt(template: Template, claims: Sequence[str]) -> str:
    """What the question model is asked: every claim a bullet, between empty lines."""
    return template.fill(claims="".join(f"\n- {claim}\n" for claim in claims))
