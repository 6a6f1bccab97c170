"""OmniLMM-12B: which tensor of the files becomes which parameter. See convert.decoder for the form of the table."""

from collections.abc import Iterator

from convert.decoder import CONV, KEEP, LINEAR, Entry, Rows, decoder_entries, linear, norm
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
RESAMPLER: Rows = (
    ("query", "query", KEEP),
    ("pos_embed", "position", KEEP),
    ("kv_proj.weight", "input/kernel", LINEAR),
    *norm("ln_q", "query_norm"),
    *norm("ln_kv", "input_norm"),
    *norm("ln_post", "output_norm"),
    *linear("attn.out_proj", "out"),
    ("proj", "output/kernel", KEEP),  # used as it stands: features @ proj
)


def table(config: OmniLmmConfig) -> list[Entry]:
    """Every tensor of an OmniLMM with these sizes; the layers of one parameter stand in order."""
    layers = range(config.vision.layers)
    entries = [Entry("vision", name, f"vision/{path}", None, axes) for name, path, axes in VISION]
    for name, path, axes in VISION_LAYER:
        entries += [Entry("vision", name.format(i), f"vision/layers/{path}", i, axes) for i in layers]
    for i in layers:
        name = f"blocks.{i}.attn.qkv.weight"
        entries += _three("vision", name, "vision/layers/{}/kernel", ("query", "key", "value"), i)
    entries += [Entry("resampler", name, f"resampler/{path}", None, axes) for name, path, axes in RESAMPLER]
    parts = ("to_query", "to_key", "to_value")
    entries += _three("resampler", "attn.in_proj_weight", "resampler/{}/kernel", parts, None)
    entries += _three("resampler", "attn.in_proj_bias", "resampler/{}/bias", parts, None)
    return entries + decoder_entries(config.decoder)


def _three(part: str, name: str, path: str, into: tuple[str, ...], layer: int | None) -> Iterator[Entry]:
    axes = LINEAR if path.endswith("kernel") else KEEP
    for piece, module in enumerate(into):
        yield Entry(part, name, path.format(module), layer, axes, piece, len(into))
