"""MiniCPM-Llama3-V 2.5: which tensor of the files becomes which parameter. See convert.decoder for the form of the
table."""

from convert.decoder import CONV, KEEP, Entry, Rows, decoder_entries, norm
from convert.llava import VISION_LAYER
from convert.resampler import resampler_entries
from rlaifv_jax.models.minicpm import MiniCpmConfig

VISION: Rows = (
    ("embeddings.patch_embedding.weight", "patch", CONV),
    ("embeddings.patch_embedding.bias", "patch_bias", KEEP),
    ("embeddings.position_embedding.weight", "position", KEEP),
    *norm("post_layernorm", "norm"),
)


def table(config: MiniCpmConfig) -> list[Entry]:
    """Every tensor of a MiniCPM-V with these sizes; the layers of one parameter stand in order."""
    entries = [Entry("vision", name, f"vision/{path}", None, axes) for name, path, axes in VISION]
    for name, path, axes in VISION_LAYER:
        for i in range(config.vision.layers):
            entries.append(Entry("vision", name.format(i), f"vision/layers/{path}", i, axes))
    return [*entries, *resampler_entries(), *decoder_entries(config.decoder)]
