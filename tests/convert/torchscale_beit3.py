"""torchscale's BEiT-3 with queries in the place of words.

Imported without fairscale, which it wants for activation checkpoints, and without torchvision, which timm wants.
"""

import warnings
from typing import Any

import torch
from torch import nn

from tests.convert.stand_ins import stand_ins


class Beit3(nn.Module):
    """Parameters are called as in Muffin's files: `beit3.` and `query`, but for what Muffin deletes."""

    def __init__(self, queries: int, **sizes: Any):
        super().__init__()
        with stand_ins("fairscale", "torchvision"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm: of a module's new place
            from torchscale.architecture.config import EncoderConfig
            from torchscale.model.BEiT3 import BEiT3
        config = EncoderConfig(
            vocab_size=20,
            multiway=True,
            layernorm_embedding=False,
            normalize_output=True,
            no_output_layer=True,
            **sizes,
        )
        self.beit3 = BEiT3(config)
        self.query = nn.Parameter(torch.zeros(queries, config.encoder_embed_dim))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalised pixels [N, 3, height, width] → [N, Q, D]."""
        image = self.beit3.vision_embed(pixels)
        split = image.shape[1]
        both = torch.cat([image, self.query.expand(len(image), -1, -1)], dim=1)
        encoded = self.beit3.encoder(src_tokens=None, token_embeddings=both, multiway_split_position=split)
        return encoded["encoder_out"][:, split:]
