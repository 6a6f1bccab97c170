"""LLaVA-1.5: which tensor of the files becomes which parameter. One table, read in both directions.

`{}` stands for the layer number. `axes` is the permutation that turns the file's tensor into ours
(np.transpose): none, the transpose of a linear layer, or [out, in, row, column] → [row, column, in, out].
"""

from dataclasses import dataclass

from rlaifv_jax.models.llava import LlavaConfig

Axes = tuple[int, ...]
KEEP: Axes | None = None
LINEAR: Axes = (1, 0)
CONV: Axes = (2, 3, 1, 0)


@dataclass(frozen=True)
class Entry:
    """One tensor of the files: its part and name (see convert.layouts), and where it goes.

    layer: index on the leading axis of a stacked parameter, None for a parameter of its own.
    """

    part: str
    name: str
    path: str
    layer: int | None
    axes: Axes | None

    def ours(self, index: tuple[slice, ...]) -> tuple[slice, ...]:
        """The index into the file's tensor that selects `index` of ours."""
        if self.axes is None or not index:
            return index
        turned = [slice(None)] * len(index)
        for position, axis in enumerate(self.axes):
            turned[axis] = index[position]
        return tuple(turned)

    def theirs(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The file's shape of a tensor that is `shape` with us."""
        return shape if self.axes is None else tuple(shape[axis] for axis in self.back or ())

    @property
    def back(self) -> Axes | None:
        """The inverse of `axes`."""
        return None if self.axes is None else tuple(self.axes.index(axis) for axis in range(len(self.axes)))


# (name in the files, our path, axes)
Rows = tuple[tuple[str, str, Axes | None], ...]


def _norm(name: str, path: str) -> Rows:
    return ((f"{name}.weight", f"{path}/scale", KEEP), (f"{name}.bias", f"{path}/bias", KEEP))


def _linear(name: str, path: str) -> Rows:
    return ((f"{name}.weight", f"{path}/kernel", LINEAR), (f"{name}.bias", f"{path}/bias", KEEP))


VISION: Rows = (
    ("embeddings.class_embedding", "class_token", KEEP),
    ("embeddings.patch_embedding.weight", "patch", CONV),
    ("embeddings.position_embedding.weight", "position", KEEP),
    *_norm("pre_layrnorm", "pre_norm"),  # sic
    *_norm("post_layernorm", "unused/norm"),
)
VISION_LAYER: Rows = (
    *_norm("encoder.layers.{}.layer_norm1", "attention_norm"),
    *_norm("encoder.layers.{}.layer_norm2", "mlp_norm"),
    *_linear("encoder.layers.{}.self_attn.q_proj", "query"),
    *_linear("encoder.layers.{}.self_attn.k_proj", "key"),
    *_linear("encoder.layers.{}.self_attn.v_proj", "value"),
    *_linear("encoder.layers.{}.self_attn.out_proj", "out"),
    *_linear("encoder.layers.{}.mlp.fc1", "up"),
    *_linear("encoder.layers.{}.mlp.fc2", "down"),
)
TEXT: Rows = (("embed_tokens.weight", "embedding", KEEP), ("norm.weight", "norm/scale", KEEP))
TEXT_LAYER: Rows = (
    ("layers.{}.input_layernorm.weight", "attention_norm/scale", KEEP),
    ("layers.{}.post_attention_layernorm.weight", "mlp_norm/scale", KEEP),
    ("layers.{}.self_attn.q_proj.weight", "attention/query/kernel", LINEAR),
    ("layers.{}.self_attn.k_proj.weight", "attention/key/kernel", LINEAR),
    ("layers.{}.self_attn.v_proj.weight", "attention/value/kernel", LINEAR),
    ("layers.{}.self_attn.o_proj.weight", "attention/out/kernel", LINEAR),
    ("layers.{}.mlp.gate_proj.weight", "mlp/gate/kernel", LINEAR),
    ("layers.{}.mlp.up_proj.weight", "mlp/up/kernel", LINEAR),
    ("layers.{}.mlp.down_proj.weight", "mlp/down/kernel", LINEAR),
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
    entries += [Entry("text", name, f"decoder/{path}", None, axes) for name, path, axes in TEXT]
    for name, path, axes in TEXT_LAYER:
        for layer in range(config.decoder.layers):
            entries.append(Entry("text", name.format(layer), f"decoder/layers/{path}", layer, axes))
    entries.append(Entry("head", "weight", "decoder/head/kernel", None, LINEAR))
    return entries
