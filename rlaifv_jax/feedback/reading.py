"""How a vision-language model reads prompts and answers in the feedback stages, whatever is asked of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rlaifv_jax.data import images
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.finder import Pictures
from rlaifv_jax.data.tiles import Placement, Tiles
from rlaifv_jax.errors import UserError
from rlaifv_jax.feedback.fields import Record
from rlaifv_jax.sampling.capacity import LENGTHS
from rlaifv_jax.sampling.load import Speaker

# Not compared: the weights are, devices only round differently, and the ratio is once it is known.
FREE = ("vision_path", "tensor", "image_aspect_ratio")


@dataclass(frozen=True)
class Reading:
    """vision_path, template, image_aspect_ratio, dtype, tensor: as `rlaifv_jax.generate` takes them.

    row_length: positions of a row that several pictures share; 0: a row for each, and longest_row says how many
    positions that may have. What belongs to a picture and does not fit a row goes to several.
    """

    vision_path: str = ""
    template: str = ""
    image_aspect_ratio: str = ""
    dtype: str = ""
    tensor: int = 0
    row_length: int = 0
    longest_row: int = 8192

    def check(self, key: str) -> None:
        """Raises `UserError` for values that mean nothing. key: section of the config, for messages."""
        for name, free in (("row_length", self.row_length == 0), ("longest_row", False)):
            value = getattr(self, name)
            if not free and not LENGTHS[0] <= value <= LENGTHS[-1]:
                raise UserError(f"{key}.{name} is {value}; it must lie between {LENGTHS[0]} and {LENGTHS[-1]}")
        if self.image_aspect_ratio not in ("", *images.ASPECT_RATIOS):
            legal = ", ".join(map(repr, images.ASPECT_RATIOS))
            raise UserError(f"{key}.image_aspect_ratio is {self.image_aspect_ratio!r}; it can be {legal} or empty")

    @property
    def settings(self) -> Mapping[str, Any]:
        """What decides results."""
        unused = ("longest_row",) if self.row_length else ()
        return {name: value for name, value in asdict(self).items() if name not in (*FREE, *unused)}

    @property
    def rows(self) -> dict[str, int]:
        """For `rlaifv_jax.sampling.calls.plan`."""
        return {"row_length": self.row_length, "longest_row": self.longest_row}

    def open(self, model: str, key: str) -> Speaker:
        """The model, its prompts understood. key: the setting that names it, for messages."""
        return Speaker(
            model,
            vision_path=self.vision_path or None,
            dtype=self.dtype,
            tensor=self.tensor,
            template=self.template or None,
            aspect_ratio=self.image_aspect_ratio,
            key=key,
        )


def placement(speaker: Speaker, pictures: Pictures, record: Record) -> Placement:
    """What the picture that a record names takes of a prompt. Raises `BadRow` where there is none, if it is read."""
    return speaker.prompter.placement(lambda: images.size(_data(pictures, record)))


def tiles(speaker: Speaker, pictures: Pictures, record: Record) -> Tiles:
    """What the tower sees of the picture that a record names. Raises `BadRow` where there is none."""
    return speaker.prompter.tiles(images.decode(_data(pictures, record)))


def _data(pictures: Pictures, record: Record) -> bytes:
    data = pictures.read(record)
    if data is None:
        raise BadRow("image_missing", "the record names no picture")
    return data
