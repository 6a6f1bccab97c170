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
    """Sizes of a tower for square pictures. layers: all that the checkpoint has."""

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
    def used_layers(self) -> int:
        """Layers that the features depend on."""
        return self.layers


@dataclass(frozen=True)
class Style:
    """How a tower's layers are built.

    activation: of the MLP. norm_first: norms stand before attention and MLP, on what these read; otherwise behind them,
    on what they add. key_bias: whether keys have a bias, as queries and values do.
    """

    activation: Callable[[jax.Array], jax.Array]
    norm_first: bool
    key_bias: bool


class VitLayer(nnx.Module):
    """Attention among all patches, then an MLP, each added to what came in."""

    def __init__(self, config: VitConfig, style: Style, *, rngs: nnx.Rngs):
        self.config, self.style = config, style
        d, f = config.width, config.mlp_width
        self.attention_norm = LayerNorm(d, config.norm_eps)
        self.query = Linear(d, d, ("embed", "heads"), bias=True, rngs=rngs)
        self.key = Linear(d, d, ("embed", "heads"), bias=style.key_bias, rngs=rngs)
        self.value = Linear(d, d, ("embed", "heads"), bias=True, rngs=rngs)
        self.out = Linear(d, d, ("heads", "embed"), bias=True, rngs=rngs)
        self.mlp_norm = LayerNorm(d, config.norm_eps)
        self.up = Linear(d, f, ("embed", "mlp"), bias=True, rngs=rngs)
        self.down = Linear(f, d, ("mlp", "embed"), bias=True, rngs=rngs)

    def __call__(self, x: jax.Array, compute: Compute) -> jax.Array:
        """[N, P, D] → [N, P, D]."""
        if self.style.norm_first:
            x = x + self._attend(self.attention_norm(x), compute)
            x = x + self._mlp(self.mlp_norm(x))
        else:
            x = x + self.attention_norm(self._attend(x, compute))
            x = x + self.mlp_norm(self._mlp(x))
        return constrain(x, "batch", None, None)

    def _attend(self, x: jax.Array, compute: Compute) -> jax.Array:
        heads, width = self.config.heads, self.config.width // self.config.heads
        query, key, value = (
            project(x).reshape(*x.shape[:2], heads, width) for project in (self.query, self.key, self.value)
        )
        mixed = attention(
            query, key, value, layout=None, scale=width**-0.5, window=None, backend=compute.tower_attention
        )
        return self.out(mixed.reshape(*x.shape))

    def _mlp(self, x: jax.Array) -> jax.Array:
        return self.down(self.style.activation(self.up(x)))


def embed_patches(pixels: jax.Array, kernel: jax.Array) -> jax.Array:
    """Pixels [N, height, width, 3] → [N, P, D], row by row: a convolution by kernel [p, p, 3, D] in steps of p."""
    p, width = kernel.shape[0], kernel.shape[-1]
    n, rows, columns = pixels.shape[0], pixels.shape[1] // p, pixels.shape[2] // p
    cut = pixels.reshape(n, rows, p, columns, p, 3).swapaxes(2, 3).reshape(n, rows * columns, -1)
    return cut @ kernel.reshape(-1, width)


def lead_with(token: jax.Array, x: jax.Array) -> jax.Array:
    """A learnt token [D] in front of the patches [N, P, D] → [N, 1 + P, D]."""
    first = jnp.broadcast_to(token, (x.shape[0], 1, x.shape[2]))
    return jnp.concatenate([first, x], axis=1)
