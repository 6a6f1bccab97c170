"""LLaVA-1.5: which tensor of the files becomes which parameter. See convert.decoder for the form of the table."""

from convert.decoder import CONV, KEEP, LINEAR, Entry, Rows, decoder_entries, linear, norm
from rlaifv_jax.models.llava import LlavaConfig

VISION: Rows = (
    ("embeddings.class_embedding", "class_token", KEEP),
    ("embeddings.patch_embedding.weight", "patch", CONV),
    ("embeddings.position_embedding.weight", "position", KEEP),
    *norm("pre_layrnorm", "pre_norm"),  # sic
    *norm("post_layernorm", "unused/norm"),
)
VISION_LAYER: Rows = (
    *norm("encoder.layers.{}.layer_norm1", "attention_norm"),
    *norm("encoder.layers.{}.layer_norm2", "mlp_norm"),
    *linear("encoder.layers.{}.self_attn.q_proj", "query"),
    *linear("encoder.layers.{}.self_attn.k_proj", "key"),
    *linear("encoder.layers.{}.self_attn.v_proj", "value"),
    *linear("encoder.layers.{}.self_attn.out_proj", "out"),
    *linear("encoder.layers.{}.mlp.fc1", "up"),
    *linear("encoder.layers.{}.mlp.fc2", "down"),
)


def table(config: LlavaConfig) -> list[Entry]:
    """Every tensor of a LLaVA with these sizes; the layers of one parameter stand in order."""
    vision, used = config.vision, config.vision.used_layers
    entries = [Entry("vision", name, f"vision/{path}", None, axes) for name, path, axes in VISION]
    for name, path, axes in VISION_LAYER:
        for layer in range(vision.layers):
            spare = layer >= used  # behind the feature layer: kept for the round trip only
            stack = "vision/unused/layers" if spare else "vision/layers"
            index = layer - used if spare else layer
            entries.append(Entry("vision", name.format(layer), f"{stack}/{path}", index, axes))
    for part, module in (("project_in", "first"), ("project_out", "second")):
        entries.append(Entry(part, "weight", f"projector/{module}/kernel", None, LINEAR))
        entries.append(Entry(part, "bias", f"projector/{module}/bias", None, KEEP))
    return entries + decoder_entries(config.decoder)
