"""From image features to a fixed number of embeddings: learnt queries that look at the patches once."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from rlaifv_jax.models.layers import LayerNorm, Linear, parameter
from rlaifv_jax.ops.attention import attention
from rlaifv_jax.ops.resize import bicubic


@dataclass(frozen=True)
class ResamplerConfig:
    """side: queries along an edge of their grid. width_in: of the features. width: of the language model."""

    side: int
    width_in: int
    width: int
    heads: int
    norm_eps: float

    @property
    def queries(self) -> int:
        return self.side**2


class Resampler(nnx.Module):
    """Cross-attention of Q queries to P patches, a norm and a linear map; no MLP, nothing added (omnilmm/model/
    resampler.py of RLAIF-V).

    `position` [Q, D] is the sin-cos table of the queries' grid, kept as the checkpoint has it and never trained; keys
    have the same table spread over theirs. Values have no positions.
    """

    def __init__(self, config: ResamplerConfig, *, rngs: nnx.Rngs):
        self.config = config
        d = config.width
        self.query = parameter(rngs, (config.queries, d), (None, "embed"))
        self.position = nnx.Param(sin_cos(config.side, d), axes=(None, "embed"))
        self.input = Linear(config.width_in, d, (None, "embed"), bias=False, rngs=rngs)
        self.query_norm = LayerNorm(d, config.norm_eps)
        self.input_norm = LayerNorm(d, config.norm_eps)
        self.to_query = Linear(d, d, ("embed", "heads"), bias=True, rngs=rngs)
        self.to_key = Linear(d, d, ("embed", "heads"), bias=True, rngs=rngs)
        self.to_value = Linear(d, d, ("embed", "heads"), bias=True, rngs=rngs)
        self.out = Linear(d, d, ("heads", "embed"), bias=True, rngs=rngs)
        self.output_norm = LayerNorm(d, config.norm_eps)
        self.output = Linear(d, d, ("embed", None), bias=False, rngs=rngs)

    def __call__(self, features: jax.Array) -> jax.Array:
        """Features of a square grid of patches [N, P, D_in] → [N, Q, D]."""
        n, patches, heads = *features.shape[:2], self.config.heads
        table, side = self.position[...], round(patches**0.5)
        read = self.input_norm(self.input(features))
        query = self.query_norm(self.query[...]) + table
        grid = table.astype(jnp.float32).reshape(self.config.side, self.config.side, -1)
        places = bicubic(grid, side).reshape(patches, -1).astype(read.dtype)

        def split(x: jax.Array) -> jax.Array:
            return jnp.broadcast_to(x, (n, *x.shape[-2:])).reshape(n, x.shape[-2], heads, -1)

        mixed = attention(
            split(self.to_query(query)),
            split(self.to_key(read + places)),
            split(self.to_value(read)),
            layout=None,
            scale=(self.config.width // heads) ** -0.5,
            window=None,
            backend="dense",  # Q · P scores are few
        )
        return self.output(self.output_norm(self.out(mixed.reshape(n, self.config.queries, -1))))


def sin_cos(side: int, width: int) -> jax.Array:
    """float32[side², width]: half of the channels tell the column, half the row, each sines then cosines."""
    frequencies = 10000 ** (-jnp.arange(width // 4, dtype=jnp.float32) / (width // 4))
    angles = jnp.arange(side, dtype=jnp.float32)[:, None] * frequencies
    line = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)  # [side, width / 2]
    shape = (side, side, width // 2)
    columns, rows = jnp.broadcast_to(line[None], shape), jnp.broadcast_to(line[:, None], shape)
    return jnp.concatenate([columns, rows], axis=2).reshape(side * side, width)
