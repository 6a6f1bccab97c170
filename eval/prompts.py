"""What a judge is told: packaged templates in our own words, or the user's."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlaifv_jax.errors import UserError

PACKAGED = Path(__file__).parent / "judge" / "prompts"
# System message of every published comparison of two answers.
CHECKER = "You are a helpful and precise assistant for checking the quality of the answer."


@dataclass(frozen=True)
class Prompts:
    """texts: template of every stage. origins: 'packaged' or the file each is from."""

    texts: Mapping[str, str]
    origins: Mapping[str, str]

    @property
    def hashes(self) -> dict[str, str]:
        return {stage: hashlib.sha256(text.encode()).hexdigest() for stage, text in self.texts.items()}


def load(stages: Sequence[str], given: Sequence[str] = ()) -> Prompts:
    """Templates of `stages`. given: files, as STAGE=FILE, or one FILE where there is one stage.

    Raises:
      UserError: an unknown stage, or a file that cannot be read.
    """
    files: dict[str, str] = {}
    for text in given:
        stage, equals, name = text.partition("=")
        if not equals or stage not in stages or not name:
            if len(stages) != 1 or (equals and not Path(text).exists()):
                legal = ", ".join(f"{stage}=FILE" for stage in stages) or "none: no judge is asked"
                raise UserError(f"--judge-prompt {text}: which prompt is it? One of {legal}")
            stage, name = stages[0], text
        if stage in files:
            raise UserError(f"--judge-prompt: there are two for {stage}, {files[stage]} and {name}")
        files[stage] = name
    texts = {stage: _read(Path(files.get(stage) or PACKAGED / f"{stage}.txt")) for stage in stages}
    return Prompts(texts, {stage: files.get(stage, "packaged") for stage in stages})


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--judge-prompt: {file} cannot be read ({error}); give a text file") from None


def fill(template: str, slots: Mapping[str, str], stage: str) -> str:
    """A template with its slots filled: {name} each, or as many bare {} in the order of `slots`. Other braces stay.

    Raises:
      UserError: the template lacks a slot.
    """
    missing = [f"{{{name}}}" for name in slots if f"{{{name}}}" not in template]
    if len(missing) == len(slots) == template.count("{}"):
        parts = template.split("{}")
        return "".join(part + value for part, value in zip(parts, [*slots.values(), ""], strict=True))
    if missing:
        raise UserError(f"the prompt of {stage} has no {', '.join(missing)}; write each of them where it goes")
    pattern = "|".join(re.escape(f"{{{name}}}") for name in slots)
    return re.sub(pattern, lambda found: slots[found[0][1:-1]], template)
