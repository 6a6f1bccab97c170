"""Which tensor of the files becomes which parameter: the rows of such a table, and those of a Llama decoder.

Tables are read in both directions. `{}` stands for the layer number. `axes` is the permutation that turns the file's
tensor into ours (np.transpose): none, the transpose of a linear layer, or [out, in, row, column] → [row, column, in,
out]. Some files hold several parameters in one tensor, equal pieces along its first axis.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rlaifv_jax.models.decoder import DecoderConfig

Axes = tuple[int, ...]
KEEP: Axes | None = None
LINEAR: Axes = (1, 0)
CONV: Axes = (2, 3, 1, 0)


@dataclass(frozen=True)
class Entry:
    """One tensor of the files: its part and name (see convert.layouts), and where it goes.

    layer: index on the leading axis of a stacked parameter, None for a parameter of its own. piece, pieces: which of
    how many parameters of the tensor this is.
    """

    part: str
    name: str
    path: str
    layer: int | None
    axes: Axes | None
    piece: int = 0
    pieces: int = 1

    def ours(self, index: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
        """The index into the file's tensor, which is `shape`, that selects `index` of ours."""
        if self.pieces > 1 and not index:
            index = (slice(None),) * len(shape)
        turned = list(index)
        for position, axis in enumerate(self.axes or ()) if index else ():
            turned[axis] = index[position]
        if self.pieces > 1:
            length = shape[0] // self.pieces
            start, stop, step = turned[0].indices(length)
            turned[0] = slice(start + self.piece * length, stop + self.piece * length, step)
        return tuple(turned)

    def theirs(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in the files of a tensor of which we have a piece that is `shape`."""
        first, *rest = shape if self.back is None else (shape[axis] for axis in self.back)
        return (first * self.pieces, *rest)

    @property
    def back(self) -> Axes | None:
        """The inverse of `axes`."""
        return None if self.axes is None else tuple(self.axes.index(axis) for axis in range(len(self.axes)))


# (name in the files, our path, axes)
Rows = tuple[tuple[str, str, Axes | None], ...]


def norm(name: str, path: str) -> Rows:
    return ((f"{name}.weight", f"{path}/scale", KEEP), (f"{name}.bias", f"{path}/bias", KEEP))


def linear(name: str, path: str) -> Rows:
    return ((f"{name}.weight", f"{path}/kernel", LINEAR), (f"{name}.bias", f"{path}/bias", KEEP))


def thirds(part: str, name: str, path: str, into: tuple[str, str, str], layer: int | None) -> Iterator[Entry]:
    """A tensor that holds what queries, keys and values are made with, one behind the other."""
    axes = LINEAR if path.endswith("kernel") else KEEP
    for piece, module in enumerate(into):
        yield Entry(part, name, path.format(module), layer, axes, piece, len(into))


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


def decoder_entries(config: DecoderConfig) -> list[Entry]:
    """Every tensor of a decoder; the layers of one parameter stand in order."""
    entries = [Entry("text", name, f"decoder/{path}", None, axes) for name, path, axes in TEXT]
    for name, path, axes in TEXT_LAYER:
        for layer in range(config.layers):
            entries.append(Entry("text", name.format(layer), f"decoder/layers/{path}", layer, axes))
    entries.append(Entry("head", "weight", "decoder/head/kernel", None, LINEAR))
    return entries


def table(config: Any) -> list[Entry]:
    """Every tensor of a language model without a tower."""
    return decoder_entries(config.decoder)
