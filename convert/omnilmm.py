"""OmniLMM-12B: which tensor of the files becomes which parameter. See convert.decoder for the form of the table."""

from convert.decoder import CONV, KEEP, Entry, Rows, decoder_entries, linear, norm, thirds
from convert.resampler import resampler_entries
from rlaifv_jax.models.omnilmm import OmniLmmConfig

VISION: Rows = (
    ("cls_token", "class_token", KEEP),
    ("pos_embed", "position", KEEP),
    ("patch_embed.proj.weight", "patch", CONV),
    ("patch_embed.proj.bias", "patch_bias", KEEP),
    *norm("norm", "norm"),
)
VISION_LAYER: Rows = (
    *norm("blocks.{}.norm1", "attention_norm"),
    *norm("blocks.{}.norm2", "mlp_norm"),
    ("blocks.{}.attn.q_bias", "query/bias", KEEP),
    ("blocks.{}.attn.v_bias", "value/bias", KEEP),
    *linear("blocks.{}.attn.proj", "out"),
    *linear("blocks.{}.mlp.fc1", "up"),
    *linear("blocks.{}.mlp.fc2", "down"),
)


def table(config: OmniLmmConfig) -> list[Entry]:
    """Every tensor of an OmniLMM with these sizes; the layers of one parameter stand in order."""
    layers = range(config.vision.layers)
    entries = [Entry("vision", name, f"vision/{path}", None, axes) for name, path, axes in VISION]
    for name, path, axes in VISION_LAYER:
        entries += [Entry("vision", name.format(i), f"vision/layers/{path}", i, axes) for i in layers]
    for i in layers:
        name = f"blocks.{i}.attn.qkv.weight"
        entries += thirds("vision", name, "vision/layers/{}/kernel", ("query", "key", "value"), i)
    entries.append(Entry("resampler", "pos_embed", "resampler/position", None, KEEP))
    return [*entries, *resampler_entries(), *decoder_entries(config.decoder)]
