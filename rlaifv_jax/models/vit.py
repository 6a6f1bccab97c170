"""What image towers have in common (arXiv 2010.11929): sizes, patches, and a layer with its variants."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from rlaifv_jax.models.layers import Compute, LayerNorm, Linear
from rlaifv_jax.ops.attention import attention
from rlaifv_jax.parallel import constrain


@dataclass(frozen=True)
class VitConfig:
    """Sizes of a tower. layers: all that the checkpoint has. image_size: edge of the square that it sees, or of
    one with as many pixels."""

    width: int
    mlp_width: int
    layers: int
    heads: int
    image_size: int
    patch_size: int
    norm_eps: float

    @property
    def side(self) -> int:
        """Patches along an edge."""
        return self.image_size // self.patch_size

    @property
    def patches(self) -> int:
        return self.side**2

    @property
    def tokens(self) -> int:
        """What the layers work on: the patches and a class token."""
        return self.patches + 1

    @property
    def still_tokens(self) -> int:
        """Those of them whose own weights no run trains, the patch embedding included."""
        return 0

    @property
    def used_layers(self) -> int:
        """Layers that the features depend on."""
        return self.layers


@dataclass(frozen=True)
class Style:
    """How a tower's layers are built.

    activation: of the MLP. norm_first: norms stand before attention and MLP, on what these read; otherwise behind them,
    on what they add. key_bias: whether keys have a bias, as queries and values do. inner_norms: whether there are also
    norms before the last matrix of attention and of MLP (arXiv 2210.06423).
    """

    activation: Callable[[jax.Array], jax.Array]
    norm_first: bool
    key_bias: bool
    inner_norms: bool


class VitLayer(nnx.Module):
    """Attention among all patches, then an MLP, each added to what came in."""

    def __init__(self, config: VitConfig, style: Style, *, rngs: nnx.Rngs):
        self.config, self.style = config, style
        d, f = config.width, config.mlp_width
        self.attention_norm = LayerNorm(d, config.norm_eps)
        self.query = Linear(d, d, ("embed", "heads"), bias=True, rngs=rngs)
        self.key = Linear(d, d, ("embed", "heads"), bias=style.key_bias, rngs=rngs)
        self.value = Linear(d, d, ("embed", "heads"), bias=True, rngs=rngs)
        self.mixed_norm = LayerNorm(d, config.norm_eps) if style.inner_norms else None
        self.out = Linear(d, d, ("heads", "embed"), bias=True, rngs=rngs)
        self.mlp_norm = LayerNorm(d, config.norm_eps)
        self.up = Linear(d, f, ("embed", "mlp"), bias=True, rngs=rngs)
        self.hidden_norm = LayerNorm(f, config.norm_eps) if style.inner_norms else None
        self.down = Linear(f, d, ("mlp", "embed"), bias=True, rngs=rngs)

    def __call__(self, x: jax.Array, compute: Compute, lengths: jax.Array | None = None) -> jax.Array:
        """[N, P, D] → [N, P, D]. lengths: int32[N], where patches are followed by padding."""
        if self.style.norm_first:
            x = x + self.collect(mix(*self.heads(self.attention_norm(x)), compute, lengths))
            x = x + self.mlp(self.mlp_norm(x))
        else:
            x = x + self.attention_norm(self.collect(mix(*self.heads(x), compute, lengths)))
            x = x + self.mlp_norm(self.mlp(x))
        return constrain(x, "batch", None, None)

    def heads(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """[N, P, D] → queries, keys and values, [N, P, H, C] each."""
        shape = (*x.shape[:2], self.config.heads, -1)
        return self.query(x).reshape(shape), self.key(x).reshape(shape), self.value(x).reshape(shape)

    def collect(self, mixed: jax.Array) -> jax.Array:
        """What attention gives, [N, P, H, C] → [N, P, D]."""
        x = mixed.reshape(*mixed.shape[:2], -1)
        return self.out(x if self.mixed_norm is None else self.mixed_norm(x))

    def mlp(self, x: jax.Array) -> jax.Array:
        hidden = self.style.activation(self.up(x))
        return self.down(hidden if self.hidden_norm is None else self.hidden_norm(hidden))


def mix(
    query: jax.Array, key: jax.Array, value: jax.Array, compute: Compute, lengths: jax.Array | None = None
) -> jax.Array:
    """Attention of every token to every other that is real, [N, P, H, C] each."""
    scale, backend = query.shape[-1] ** -0.5, compute.tower_attention
    return attention(query, key, value, layout=None, scale=scale, window=None, backend=backend, lengths=lengths)


def embed_patches(pixels: jax.Array, kernel: jax.Array) -> jax.Array:
    """Pixels [N, height, width, 3] → [N, P, D], row by row: a convolution by kernel [p, p, 3, D] in steps of p."""
    p = kernel.shape[0]
    n, rows, columns = pixels.shape[0], pixels.shape[1] // p, pixels.shape[2] // p
    return embed_cut(pixels.reshape(n, rows, p, columns, p, 3).swapaxes(2, 3).reshape(n, rows * columns, -1), kernel)


def embed_cut(patches: jax.Array, kernel: jax.Array) -> jax.Array:
    """The same of pictures that are cut into patches: [N, P, (row, column, channel)] → [N, P, D]."""
    return patches @ kernel.reshape(-1, kernel.shape[-1])


def lead_with(token: jax.Array, x: jax.Array) -> jax.Array:
    """A learnt token [D] in front of the patches [N, P, D] → [N, 1 + P, D]."""
    first = jnp.broadcast_to(token, (x.shape[0], 1, x.shape[2]))
    return jnp.concatenate([first, x], axis=1)
