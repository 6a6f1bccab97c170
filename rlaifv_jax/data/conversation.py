"""Which template a model's conversations have."""

from typing import Any

from rlaifv_jax.data.chat_template import OWN, ChatTemplate
from rlaifv_jax.data.templates import Conversation, get_template
from rlaifv_jax.data.tokenizer import Tokenizer
from rlaifv_jax.errors import UserError


def conversation_of(model: Any, tokenizer: Tokenizer, name: str | None = None) -> Conversation:
    """The template called `name`; without a name that which the checkpoint was trained with, else its family's.

    Args:
      model: an opened checkpoint (convert.load.StoredModel).

    Raises:
      UserError: no such template, or one that pictures have no place in.
    """
    family = model.family
    name = name or model.template
    if name and family.only_own_template:
        raise UserError(
            f"template is {name!r}, but {family.name} shows pictures by tokens of its own; leave it empty for {OWN}"
        )
    name = name or family.template
    return get_template(name) if name else ChatTemplate.of(tokenizer, family.speech, model.directory)
