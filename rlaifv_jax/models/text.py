"""A language model alone: Llama-family decoders that see no images. Models with a tower build on it."""

from dataclasses import dataclass
from typing import Any

import jax
from flax import nnx

from rlaifv_jax.data.batch import Batch
from rlaifv_jax.data.tiles import Tile
from rlaifv_jax.models.decoder import Decoder, DecoderConfig
from rlaifv_jax.models.layers import Compute
from rlaifv_jax.ops.attention import Layout
from rlaifv_jax.ops.logprob import target_log_probs

NOTHING = Tile((0, 0, 3), 0)


@dataclass(frozen=True)
class TextConfig:
    """A language model's sizes, and that it sees nothing, in the words of the families that do."""

    decoder: DecoderConfig
    tile: Tile = NOTHING
    image_mean: tuple[()] = ()
    image_std: tuple[()] = ()

    def processor(self, aspect_ratio: str) -> None:
        """Nothing prepares pictures."""


class TextModel(nnx.Module):
    """config: has at least the fields of `TextConfig`."""

    def __init__(self, config: Any, *, rngs: nnx.Rngs):
        self.config = config
        self.decoder = Decoder(config.decoder, rngs=rngs)

    def embed(self, batch: Batch, compute: Compute) -> jax.Array:
        """Rows → embeddings [B, T, D]."""
        return self.decoder.embed(batch.tokens)

    def hidden(self, batch: Batch, compute: Compute) -> jax.Array:
        """Rows → final hidden states [B, T, D]."""
        layout = Layout(batch.segments, batch.branches, batch.positions)
        return self.decoder(self.embed(batch, compute), layout, compute)

    def log_probs(self, batch: Batch, compute: Compute) -> jax.Array:
        """float32[B, R]: log-probability of every target of the batch."""
        hidden = self.hidden(batch, compute)
        head = self.decoder.head.kernel[...]
        return target_log_probs(hidden, head, batch.sources, batch.targets, vocab_block=compute.vocab_block)
