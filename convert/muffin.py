"""Muffin-13B and RLHF-V-13B: which tensor of the files becomes which parameter. See convert.decoder for the form of
the table."""

from convert.decoder import CONV, KEEP, LINEAR, Entry, Rows, decoder_entries, linear, norm
from rlaifv_jax.models.muffin import MuffinConfig

EXPERTS = {"A": "image", "B": "queries"}
IMAGE: Rows = (
    ("vision_embed.cls_token", "class_token", KEEP),
    ("vision_embed.proj.weight", "patch", CONV),
    ("vision_embed.proj.bias", "patch_bias", KEEP),
)
PROJECTOR: Rows = (("weight", "kernel", LINEAR), ("bias", "bias", KEEP))


def around(expert: str) -> Rows:
    """What an expert, 'A' or 'B', has outside the layers."""
    positions = (f"encoder.embed_positions.{expert}.weight", "position", KEEP)
    return (positions, *norm(f"encoder.layer_norm.{expert}", "norm"))


def within(expert: str) -> Rows:
    """What an expert has in a layer."""
    layer = "encoder.layers.{}."
    attention, mlp = f"{layer}self_attn.", f"{layer}ffn.{expert}."
    return (
        *norm(f"{layer}self_attn_layer_norm.{expert}", "attention_norm"),
        *linear(f"{attention}q_proj.{expert}", "query"),
        *linear(f"{attention}k_proj.{expert}", "key"),
        *linear(f"{attention}v_proj.{expert}", "value"),
        *norm(f"{attention}inner_attn_ln.{expert}", "mixed_norm"),
        *linear(f"{attention}out_proj.{expert}", "out"),
        *norm(f"{layer}final_layer_norm.{expert}", "mlp_norm"),
        *linear(f"{mlp}fc1", "up"),
        *norm(f"{mlp}ffn_layernorm", "hidden_norm"),
        *linear(f"{mlp}fc2", "down"),
    )


def table(config: MuffinConfig) -> list[Entry]:
    """Every tensor of a Muffin with these sizes; the layers of one parameter stand in order."""
    entries = [Entry("vision", name, f"vision/image/{path}", None, axes) for name, path, axes in IMAGE]
    entries.append(Entry("query", "query", "vision/queries/query", None, KEEP))
    for expert, module in EXPERTS.items():
        entries += [Entry("vision", name, f"vision/{module}/{path}", None, axes) for name, path, axes in around(expert)]
        for name, path, axes in within(expert):
            for i in range(config.vision.layers):
                entries.append(Entry("vision", name.format(i), f"vision/layers/{module}/{path}", i, axes))
    entries += [Entry("projector", name, f"projector/{path}", None, axes) for name, path, axes in PROJECTOR]
    return entries + decoder_entries(config.decoder)
