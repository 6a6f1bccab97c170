"""Which template a model's conversations have."""

from typing import Any

from rlaifv_jax.data.chat_template import OWN, ChatTemplate
from rlaifv_jax.data.muffin_template import MUFFIN
from rlaifv_jax.data.templates import IMAGE_TAG, TEMPLATES, Conversation, check_tokens
from rlaifv_jax.data.tokenizer import Tokenizer
from rlaifv_jax.errors import UserError

NAMED: dict[str, Conversation] = {**TEMPLATES, MUFFIN.name: MUFFIN}


def get_conversation(name: str) -> Conversation:
    """The template called `name`; `UserError` with the known names otherwise."""
    if name not in NAMED:
        raise UserError(f"template {name!r} is not known; choose one of: {', '.join(sorted(NAMED))}")
    return NAMED[name]


def conversation_of(model: Any, tokenizer: Tokenizer, name: str | None = None) -> Conversation:
    """The template called `name`; without a name that which the checkpoint was trained with, else its family's.

    Args:
      model: an opened checkpoint (convert.load.StoredModel).

    Raises:
      UserError: no such template, or one whose tokens for pictures are missing.
    """
    family = model.family
    name = name or model.template
    if name and family.only_own_template:
        raise UserError(
            f"template is {name!r}, but {family.name} shows pictures by tokens of its own; leave it empty for {OWN}"
        )
    name = name or family.template
    if not name:
        return ChatTemplate.of(tokenizer, family.speech, model.directory)
    named = get_conversation(name)
    check_tokens(tokenizer, [tag for tag in named.image_tags if tag != IMAGE_TAG], f"template {name!r}")
    return named
