"""LLaVA-NeXT: LLaVA's tensors, and the embedding that ends a line. See convert.decoder for the form of the table."""

from convert import llava
from convert.decoder import KEEP, Entry
from rlaifv_jax.models.llava_next import LlavaNextConfig


def table(config: LlavaNextConfig) -> list[Entry]:
    """Every tensor of a LLaVA-NeXT with these sizes; the layers of one parameter stand in order."""
    return [*llava.table(config), Entry("newline", "image_newline", "projector/newline", None, KEEP)]
