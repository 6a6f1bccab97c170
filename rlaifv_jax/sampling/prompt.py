"""From a question about a picture to what the engine takes: tokens, pixels, a name."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from rlaifv_jax.data import images
from rlaifv_jax.data.encode import Encoded, is_unicode, tokenize
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.templates import IMAGE_TAG, Turn, get_template, render_prompt
from rlaifv_jax.data.tokenizer import FastTokenizer, Tokenizer, load_tokenizer
from rlaifv_jax.errors import UserError


@dataclass(frozen=True)
class Prompt:
    """encoded: a prefix without answers. image: uint8[size, size, 3], None for text only. name: decides, with the
    seed, all randomness of its answers. tag: comes back with the answers."""

    encoded: Encoded
    image: np.ndarray | None
    name: str
    tag: Any = field(default=None, compare=False)

    @property
    def positions(self) -> int:
        return self.encoded.prefix_length

    def key(self, seed: int) -> np.ndarray:
        """uint32[2], see `choose.uniforms`."""
        return np.frombuffer(hashlib.sha256(f"{seed}\n{self.name}".encode()).digest()[:8], "<u4")


class Prompter:
    """Makes the prompts of one model.

    Args:
      model: an opened checkpoint (convert.load.StoredModel).
      template: conversation template; None: that of the checkpoint, else llava_v1. Of a language model that names none
        it is its tokenizer's own.
      pad: lay oblong pictures on a square, as the original generates; False crops them, as it trains.
    """

    def __init__(self, model: Any, template: str | None = None, pad: bool = True):
        self.config = model.config
        self.tokenizer: Tokenizer = load_tokenizer(model.directory)
        name = template or model.template or ("llava_v1" if model.family.sees else None)
        self.template = get_template(name) if name else None
        self.own = None if name else _own_template(self.tokenizer, model.directory)
        self.pad = pad

    @property
    def template_name(self) -> str:
        return self.template.name if self.template else "the tokenizer's own"

    def pixels(self, picture: Image.Image) -> np.ndarray:
        """An RGB picture → uint8[size, size, 3]. Raises `BadRow` for one that is far too thin."""
        square = images.pad_to_square(picture, self.config.image_mean) if self.pad else picture
        return images.center_crop(square, self.config.image_size)

    def encode(self, turns: Sequence[Turn], *, image: bool) -> Encoded:
        """Tokens of a conversation that waits for an answer; the image's place is before the first question.

        Raises `BadRow` for a text that is none.
        """
        for turn in turns:
            if not is_unicode(turn.text):
                raise BadRow("not_unicode", "the text contains half of a surrogate pair")
        turns = [turn._replace(text=_without_tag(turn.text)) for turn in turns]
        if self.own:
            ids = self.own.chat([{"role": turn.role, "content": turn.text} for turn in turns])
        else:
            assert self.template is not None
            ids = tokenize(self.tokenizer, render_prompt(self.template, turns, image=image))
        return Encoded(np.asarray(ids, np.int32), (), (), self.config.image_tokens if image else 0)

    def prompt(self, turns: str | Sequence[Turn], picture: Image.Image | None, name: str, tag: Any = None) -> Prompt:
        """A question, or a conversation, about a picture or none. Raises `BadRow` for what it cannot be asked."""
        if isinstance(turns, str):
            turns = [Turn("user", turns)]
        if picture is None and not turns[0].text.strip():
            raise BadRow("empty_question", "there is neither an image nor a question")
        if picture is not None and not self.config.image_tokens:
            raise BadRow("image_for_text_model", "this model is a language model without a tower")
        pixels = None if picture is None else self.pixels(picture)
        return Prompt(self.encode(turns, image=picture is not None), pixels, name, tag)


def _own_template(tokenizer: Tokenizer, directory: Any) -> FastTokenizer:
    """The tokenizer of a language model, if it brings a chat template along."""
    if isinstance(tokenizer, FastTokenizer) and tokenizer.has_chat_template:
        return tokenizer
    raise UserError(f"{directory} holds no chat template; name the conversation template that it was trained with")


def _without_tag(text: str) -> str:
    """Question files may hold the image's tag, which the template places itself."""
    while IMAGE_TAG in text:  # taking one out may put together another
        text = text.replace(IMAGE_TAG, "").strip()
    return text
