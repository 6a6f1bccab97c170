"""From image features to a fixed number of embeddings: learnt queries that look at the patches once."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx

from rlaifv_jax.models.layers import LayerNorm, Linear, parameter
from rlaifv_jax.ops.attention import attention
from rlaifv_jax.ops.resize import bicubic


@dataclass(frozen=True)
class ResamplerConfig:
    """width_in: of the features. width: of the language model."""

    queries: int
    width_in: int
    width: int
    heads: int
    norm_eps: float

    def flops(self, patches: int) -> float:
        """Forward, for one picture or tile."""
        d, queries = self.width, self.queries
        linear = 2.0 * d * (patches * (self.width_in + 2 * d) + queries * 3 * d)
        return linear + 4.0 * queries * patches * d


class Resampler(nnx.Module):
    """Cross-attention of Q queries to P patches, a norm and a linear map; no MLP, nothing added (omnilmm/model/
    resampler.py of RLAIF-V). Queries and keys may have positions, which a subclass gives; values have none."""

    def __init__(self, config: ResamplerConfig, *, rngs: nnx.Rngs):
        self.config = config
        d = config.width
        self.query = parameter(rngs, (config.queries, d), (None, "embed"))
        self.input = Linear(config.width_in, d, (None, "embed"), bias=False, rngs=rngs)
        self.query_norm = LayerNorm(d, config.norm_eps)
        self.input_norm = LayerNorm(d, config.norm_eps)
        self.to_query = Linear(d, d, ("embed", "heads"), bias=True, rngs=rngs)
        self.to_key = Linear(d, d, ("embed", "heads"), bias=True, rngs=rngs)
        self.to_value = Linear(d, d, ("embed", "heads"), bias=True, rngs=rngs)
        self.out = Linear(d, d, ("heads", "embed"), bias=True, rngs=rngs)
        self.output_norm = LayerNorm(d, config.norm_eps)
        self.output = Linear(d, d, ("embed", None), bias=False, rngs=rngs)

    def look(
        self, features: jax.Array, of_queries: jax.Array | None, of_keys: jax.Array, lengths: jax.Array | None
    ) -> jax.Array:
        """Features [N, P, D_in] → [N, Q, D].

        of_queries, of_keys: positions, [Q, D] (None: without) and [P, D] or [N, P, D]. lengths: int32[N], how many
        features are real; None: all.
        """
        n, heads = features.shape[0], self.config.heads
        read = self.input_norm(self.input(features))
        query = self.query_norm(self.query[...])
        if of_queries is not None:
            query = query + of_queries

        def split(x: jax.Array) -> jax.Array:
            return jnp.broadcast_to(x, (n, *x.shape[-2:])).reshape(n, x.shape[-2], heads, -1)

        mixed = attention(
            split(self.to_query(query)),
            split(self.to_key(read + of_keys.astype(read.dtype))),
            split(self.to_value(read)),
            layout=None,
            scale=(self.config.width // heads) ** -0.5,
            window=None,
            backend="dense",  # Q · P scores are few
            lengths=lengths,
        )
        return self.output(self.output_norm(self.out(mixed.reshape(n, self.config.queries, -1))))


class SquareResampler(Resampler):
    """OmniLMM's: its queries are a square grid, and so are the patches.

    `position` [Q, D] is the sin-cos table of the queries' grid, kept as the checkpoint has it and never trained; keys
    have the same table spread over theirs.
    """

    def __init__(self, config: ResamplerConfig, *, rngs: nnx.Rngs):
        super().__init__(config, rngs=rngs)
        self.side = math.isqrt(config.queries)
        self.position = nnx.Param(sin_cos(jnp.arange(config.queries), self.side, config.width), axes=(None, "embed"))

    def __call__(self, features: jax.Array) -> jax.Array:
        """Features of a square grid of patches [N, P, D_in] → [N, Q, D]."""
        table, patches = self.position[...], features.shape[1]
        grid = table.astype(jnp.float32).reshape(self.side, self.side, -1)
        return self.look(features, table, bicubic(grid, math.isqrt(patches)).reshape(patches, -1), None)


class GridResampler(Resampler):
    """MiniCPM-V's: every picture has a grid of its own, whose positions its keys have; queries have none."""

    def __call__(self, features: jax.Array, grids: jax.Array) -> jax.Array:
        """Features [N, P, D_in], padded behind the patches of int32[N, 2] rows and columns → [N, Q, D]."""
        columns = jnp.maximum(grids[:, 1:], 1)  # of a tile that is none
        places = sin_cos(jnp.arange(features.shape[1]), columns, self.config.width)
        return self.look(features, None, places, grids[:, 0] * grids[:, 1])


def sin_cos(patch: jax.Array, columns: jax.Array | int, width: int) -> jax.Array:
    """Positions of patches in a grid of so many columns, counted row by row: int[...] → float32[..., width].

    Half of the channels tell the column, half the row, each sines then cosines.
    """
    frequencies = 10000 ** (-jnp.arange(width // 4, dtype=jnp.float32) / (width // 4))
    angles = [place.astype(jnp.float32)[..., None] * frequencies for place in (patch % columns, patch // columns)]
    return jnp.concatenate([wave(angle) for angle in angles for wave in (jnp.sin, jnp.cos)], axis=-1)
