"""The Llama-family decoder: Vicuna, Llama-3 and Mistral are other numbers in the same config."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx

from rlaifv_jax.models.layers import Compute, Linear, RMSNorm, parameter, run, stack
from rlaifv_jax.ops.attention import Layout, attention
from rlaifv_jax.ops.rope import rotate
from rlaifv_jax.parallel import constrain

# Queries [B, T, H, C], keys and values [B, T, K, C], rotated → [B, T, H, C].
Attend = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a decoder.

    With kv_heads < heads, query heads share key/value heads in groups (arXiv 2305.13245). window: how many positions
    a token sees, itself included (arXiv 2310.06825); None: all before it.
    """

    vocab_size: int
    width: int
    mlp_width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    rope_theta: float
    rms_eps: float
    window: int | None


class SelfAttention(nnx.Module):
    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        queries, keys = config.heads * config.head_width, config.kv_heads * config.head_width
        self.query = Linear(config.width, queries, ("embed", "heads"), bias=False, rngs=rngs)
        self.key = Linear(config.width, keys, ("embed", "heads"), bias=False, rngs=rngs)
        self.value = Linear(config.width, keys, ("embed", "heads"), bias=False, rngs=rngs)
        self.out = Linear(queries, config.width, ("heads", "embed"), bias=False, rngs=rngs)

    def __call__(self, x: jax.Array, positions: jax.Array, attend: Attend) -> jax.Array:
        c = self.config
        query = self.query(x).reshape(*x.shape[:2], c.heads, c.head_width)  # [B, T, H, C]
        key = self.key(x).reshape(*x.shape[:2], c.kv_heads, c.head_width)  # [B, T, K, C]
        value = self.value(x).reshape(*x.shape[:2], c.kv_heads, c.head_width)
        mixed = attend(
            constrain(rotate(query, positions, c.rope_theta), "batch", None, "heads", None),
            rotate(key, positions, c.rope_theta),
            value,
        )
        return self.out(mixed.reshape(*x.shape[:2], -1))


class GatedMlp(nnx.Module):
    """down(silu(gate(x)) · up(x)), arXiv 2002.05202."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.gate = Linear(config.width, config.mlp_width, ("embed", "mlp"), bias=False, rngs=rngs)
        self.up = Linear(config.width, config.mlp_width, ("embed", "mlp"), bias=False, rngs=rngs)
        self.down = Linear(config.mlp_width, config.width, ("mlp", "embed"), bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = jax.nn.silu(self.gate(x)) * self.up(x)  # [B, T, F]
        return self.down(constrain(hidden, "batch", None, "mlp"))


class DecoderLayer(nnx.Module):
    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.attention_norm = RMSNorm(config.width, config.rms_eps)
        self.attention = SelfAttention(config, rngs=rngs)
        self.mlp_norm = RMSNorm(config.width, config.rms_eps)
        self.mlp = GatedMlp(config, rngs=rngs)

    def __call__(self, x: jax.Array, positions: jax.Array, attend: Attend) -> jax.Array:
        x = x + self.attention(self.attention_norm(x), positions, attend)
        x = x + self.mlp(self.mlp_norm(x))
        return constrain(x, "batch", None, None)


class Decoder(nnx.Module):
    """Embeddings in, final hidden states out; `head` ([D, V], untied) is applied by whoever needs logits."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.config = config
        self.embedding = parameter(rngs, (config.vocab_size, config.width), ("vocab", "embed"))
        self.layers = stack(lambda r: DecoderLayer(config, rngs=r), config.layers, rngs)
        self.norm = RMSNorm(config.width, config.rms_eps)
        self.head = Linear(config.width, config.vocab_size, ("embed", "vocab"), bias=False, rngs=rngs)

    def embed(self, tokens: jax.Array) -> jax.Array:
        """int32[B, T] → [B, T, D]."""
        table = constrain(self.embedding[...], "vocab", None)  # gathered over fsdp once, then looked up locally
        return constrain(table[tokens], "batch", None, None)

    def __call__(self, x: jax.Array, layout: Layout, compute: Compute) -> jax.Array:
        """[B, T, D] embeddings → [B, T, D] hidden states after the final norm."""
        attend = self.attention(layout, compute)
        x = run(self.layers, x, lambda layer, h: layer(h, layout.positions, attend), compute)
        return self.norm(x)

    def attention(self, layout: Layout, compute: Compute) -> Attend:
        """Attention within rows."""
        scale, window = self.config.head_width**-0.5, self.config.window
        return partial(attention, layout=layout, scale=scale, window=window, backend=compute.attention)

    def step(
        self, layers: Sequence[DecoderLayer], x: jax.Array, positions: jax.Array, attends: Sequence[Attend]
    ) -> jax.Array:
        """The same with layers that stand by themselves (`models.blueprint.unstack`), each with attention of its own.

        For generation, where every layer has a cache: stacked layers and caches would be cut into copies.
        """
        for layer, attend in zip(layers, attends, strict=True):
            x = layer(x, positions, attend)
        return self.norm(x)

    def logits(self, hidden: jax.Array) -> jax.Array:
        """[..., D] hidden states → float32[..., V]."""
        return jax.lax.dot_general(
            hidden, self.head.kernel[...], (((hidden.ndim - 1,), (0,)), ((), ())), preferred_element_type=jnp.float32
        )
