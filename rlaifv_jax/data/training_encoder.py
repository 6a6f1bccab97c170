"""The encoder that a model's checkpoint asks for."""

from typing import Any, Literal

from rlaifv_jax.data.conversation import conversation_of
from rlaifv_jax.data.encode import Encoder
from rlaifv_jax.data.tiles import ImageProcessor
from rlaifv_jax.data.tokenizer import load_tokenizer


def training_encoder(
    model: Any,
    processor: ImageProcessor | None,
    *,
    template: str,
    max_length: int,
    objective: Literal["dpo", "sft"],
) -> Encoder:
    """Rows as the model is trained on them.

    Args:
      model: an opened checkpoint (convert.load.StoredModel). processor: of its pictures.
      template: name of the conversation template; empty for the checkpoint's. max_length: of a row of tokens; 0 for
        what the family was trained with.

    Raises:
      UserError: no tokenizer, no such template, or one whose tokens are missing.
    """
    tokenizer = load_tokenizer(model.directory)
    return Encoder(
        tokenizer,
        conversation_of(model, tokenizer, template),
        processor=processor,
        max_length=max_length or model.family.max_length,
        objective=objective,
    )
