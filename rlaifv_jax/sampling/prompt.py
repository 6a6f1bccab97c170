"""From a question about a picture to what the engine takes: tokens, pixels, a name."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from rlaifv_jax.data import images
from rlaifv_jax.data.encode import Encoded, Encoder, is_unicode
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.templates import IMAGE_TAG, Turn, get_template, render_prompt
from rlaifv_jax.data.tokenizer import Tokenizer, load_tokenizer


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
      template: conversation template; None: that of the checkpoint, else llava_v1.
      pad: lay oblong pictures on a square, as the original generates; False crops them, as it trains.
    """

    def __init__(self, model: Any, template: str | None = None, pad: bool = True):
        self.config = model.config
        self.template = get_template(template or model.template or "llava_v1")
        self.tokenizer: Tokenizer = load_tokenizer(model.directory)
        self.encoder = Encoder(
            self.tokenizer, self.template, model.config.image_tokens, max_length=2**31, objective="sft"
        )
        self.pad = pad

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
        ids = self.encoder.tokenize(render_prompt(self.template, turns, image=image))
        return Encoded(np.asarray(ids, np.int32), (), (), self.config.image_tokens if image else 0)

    def prompt(self, turns: str | Sequence[Turn], picture: Image.Image | None, name: str, tag: Any = None) -> Prompt:
        """A question, or a conversation, about a picture or none."""
        if isinstance(turns, str):
            turns = [Turn("user", turns)]
        if picture is None and not turns[0].text.strip():
            raise BadRow("empty_question", "there is neither an image nor a question")
        pixels = None if picture is None else self.pixels(picture)
        return Prompt(self.encode(turns, image=picture is not None), pixels, name, tag)


def _without_tag(text: str) -> str:
    """Question files may hold the image's tag, which the template places itself."""
    while IMAGE_TAG in text:  # taking one out may put together another
        text = text.replace(IMAGE_TAG, "").strip()
    return text
