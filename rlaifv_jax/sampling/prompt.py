"""From a question about a picture to what the engine takes: tokens, pixels, a name."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from rlaifv_jax.data.chat_template import ChatTemplate
from rlaifv_jax.data.conversation import conversation_of
from rlaifv_jax.data.encode import Encoded
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.templates import Turn, without_tags
from rlaifv_jax.data.texts import check_text
from rlaifv_jax.data.tiles import ImageProcessor, Placement, Size, Tiles, placement_of
from rlaifv_jax.data.tokenizer import Tokenizer, load_tokenizer
from rlaifv_jax.errors import UserError


@dataclass(frozen=True)
class Prompt:
    """encoded: a prefix without answers. image: None for text only. name: decides, with the seed, all randomness of its
    answers. tag: comes back with the answers."""

    encoded: Encoded
    image: Tiles | None
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
      template: conversation template, see `conversation_of`.
      aspect_ratio: how pictures become tiles, see `SeeingConfig.processor`; '': as the family generates.

    Raises:
      UserError: a template or a way with pictures that the model does not know.
    """

    def __init__(self, model: Any, template: str | None = None, aspect_ratio: str = ""):
        self.config = model.config
        self.tokenizer: Tokenizer = load_tokenizer(model.directory)
        self.template = conversation_of(model, self.tokenizer, template)
        self.aspect_ratio: str = aspect_ratio or model.family.generation_aspect_ratio
        self.processor: ImageProcessor | None = self.config.processor(self.aspect_ratio)

    @property
    def voice(self) -> str:
        """The template's name; of one that a tokenizer brings along a fingerprint as well, since these are many."""
        if not isinstance(self.template, ChatTemplate):
            return self.template.name
        parts = repr((self.template, self.tokenizer.fingerprint))
        return f"{self.template.name} ({hashlib.sha256(parts.encode()).hexdigest()[:16]})"

    @property
    def identity(self) -> dict[str, str]:
        """What decides prompts, for the manifests of runs."""
        return {"conversation template": self.voice, "image aspect ratio": self.aspect_ratio}

    def placement(self, size: Callable[[], Size]) -> Placement:
        """What a picture takes of a prompt; its size is asked for only where that matters. Raises `BadRow`."""
        return placement_of(self.processor, size)

    def tiles(self, picture: Image.Image) -> Tiles:
        """What the tower sees of an RGB picture. Raises `BadRow` for one that is far too thin."""
        assert self.processor is not None
        return self.processor.cut(picture)

    def encode(self, turns: Sequence[Turn], picture: Placement | None, system: str | None = None) -> Encoded:
        """Tokens of a conversation that waits for an answer; the picture's place is beside the first question.

        system: in place of the template's own text in front of all.

        Raises `BadRow` for a text that is none or too long, or a system text where the template has no place for it,
        `UserError` for a tokenizer of another model.
        """
        for text in (*(turn.text for turn in turns), system or ""):
            check_text(text)
        template = self.template if system is None else self.template.with_system(self._without_tags(system))
        turns = [turn._replace(text=self._without_tags(turn.text)) for turn in turns]
        slices = picture.slices if picture else (0, 0)
        text = template.render_prompt(turns, image=picture is not None, slices=slices)
        ids = template.tokenize(self.tokenizer, text)
        encoded = Encoded(np.asarray(ids, np.int32), (), (), picture)
        if encoded.highest_token >= (rows := self.config.decoder.vocab_size):
            raise UserError(
                f"token id {encoded.highest_token}, but the model's vocabulary has {rows} rows; its tokenizer belongs "
                "to another model; bring its own"
            )
        return encoded

    def prompt(
        self,
        turns: str | Sequence[Turn],
        picture: Image.Image | None,
        name: str,
        tag: Any = None,
        system: str | None = None,
    ) -> Prompt:
        """A question, or a conversation, about a picture or none. Raises `BadRow` for what it cannot be asked."""
        if isinstance(turns, str):
            turns = [Turn("user", turns)]
        if picture is None and not self._without_tags(turns[0].text).strip():
            raise BadRow("empty_question", "there is neither an image nor a question")
        placement = None if picture is None else self.placement(lambda: picture.size)
        tiles = None if picture is None else self.tiles(picture)
        return Prompt(self.encode(turns, placement, system), tiles, name, tag)

    def _without_tags(self, text: str) -> str:
        return without_tags(self.template.image_tags, text)
