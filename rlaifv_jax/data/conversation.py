"""Which template a model's conversations have."""

from typing import Any

from rlaifv_jax.data.chat_template import OWN, ChatTemplate
from rlaifv_jax.data.chatml_template import CHATML_DIRECT
from rlaifv_jax.data.muffin_template import MUFFIN
from rlaifv_jax.data.templates import IMAGE_TAG, TEMPLATES, Conversation, check_tokens, knows
from rlaifv_jax.data.tokenizer import Tokenizer
from rlaifv_jax.errors import UserError

NAMED: dict[str, Conversation] = {**TEMPLATES, MUFFIN.name: MUFFIN, CHATML_DIRECT.name: CHATML_DIRECT}


def get_conversation(name: str) -> Conversation:
    """The template called `name`; `UserError` with the known names otherwise."""
    if name not in NAMED:
        raise UserError(f"template {name!r} is not known; choose one of: {', '.join(sorted(NAMED))}")
    return NAMED[name]


def conversation_of(model: Any, tokenizer: Tokenizer, name: str | None = None) -> Conversation:
    """The template called `name`; without a name that which the checkpoint was trained with, else the first of its
    family's that its tokenizer has the tokens for.

    Args:
      model: an opened checkpoint (convert.load.StoredModel).

    Raises:
      UserError: no such template, or one whose tokens are missing.
    """
    family = model.family
    name = name or model.template
    if name and family.only_own_template:
        raise UserError(
            f"template is {name!r}, but {family.name} shows pictures by tokens of its own; leave it empty for {OWN}"
        )
    choice = [get_conversation(each) for each in ((name,) if name else family.templates)]
    if not choice:
        return ChatTemplate.of(tokenizer, family.speech, model.directory)
    found = next((each for each in choice if not _strange(each, tokenizer)), choice[-1])
    where = f"template {found.name!r}"
    check_tokens(tokenizer, [tag for tag in found.image_tags if tag != IMAGE_TAG], where)
    if strange := _strange(found, tokenizer):
        raise UserError(f"{where}: {' and '.join(strange)} are no tokens of {model.directory}; choose another template")
    return found


def _strange(template: Conversation, tokenizer: Tokenizer) -> list[str]:
    """What a template writes and a tokenizer does not know."""
    return [mark for mark in template.marks if not knows(tokenizer, mark)]
