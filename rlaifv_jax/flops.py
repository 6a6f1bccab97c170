"""Floating-point operations that a step needs, by formula, and what the hardware could do.

One multiply-add is 2 operations. Counted for a pair in the shared layout, prefix P tokens (image included),
answers of c₁ and c₂ tokens with R targets, each term forward plus backward (3 × forward) where it is trained:

    decoder matrices   2 · N_layers · (P + c₁ + c₂)            N_layers: matrix entries of all decoder layers
    attention          4 · L · H · C · Σ (query, key) pairs     P(P+1)/2 + Σ_b [c_b P + c_b (c_b+1)/2], causal
    head               2 · D · V · R
    projector          2 · N_projector · patches                of LLaVA, for each tile; a resampler also has attention
    image tower        forward only (3 × when it is trained, less the weights that never are)

With adapters (LoRA) the decoder's own matrices and the head have no gradient: 2 ×, not 3 ×. Adapters take 3 × 2 N more.

Recomputation for memory (remat) is not counted: this is model FLOPs, the M in MFU (arXiv 2204.02311, appendix B).
"""

from typing import Any

import jax
import numpy as np

from rlaifv_jax.models.decoder import DecoderConfig
from rlaifv_jax.models.families import Trained
from rlaifv_jax.models.lora import Lora
from rlaifv_jax.models.vit import VitConfig

# Dense bfloat16 peak per chip, from the vendors' data sheets, by jax's device_kind.
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}


def tower_flops(config: VitConfig) -> float:
    """Forward pass of one image through the layers that are used."""
    tokens, d = config.tokens, config.width
    attention = 4 * config.used_layers * tokens * tokens * d
    return _tower_matrices(config, tokens) + attention + _patch_flops(config)


def _patch_flops(config: VitConfig) -> float:
    return 2 * config.patches * 3 * config.patch_size**2 * config.width


def _tower_matrices(config: VitConfig, tokens: int) -> float:
    """Products of so many tokens with the weights of the layers that are used."""
    d = config.width
    return 2 * config.used_layers * tokens * (4 * d * d + 2 * d * config.mlp_width)


def _tower_gradient_flops(config: VitConfig) -> float:
    """Backward pass of one image; where the image's own weights never learn, without theirs."""
    every = 2 * tower_flops(config)
    if not config.still_tokens:
        return every
    return every - _tower_matrices(config, config.still_tokens) - 2 * _patch_flops(config)


def decoder_flops(config: DecoderConfig, prefix: Any, answers: Any, targets: Any) -> Any:
    """Forward pass of shared-prefix rows. prefix: int[N]; answers: int[N, branches]; targets: int[N]. → float64[N]"""
    prefix, answers = np.asarray(prefix, np.float64), np.asarray(answers, np.float64)
    pairs = prefix * (prefix + 1) / 2
    pairs = pairs + np.sum(answers * prefix[:, None] + answers * (answers + 1) / 2, axis=1)
    attention = 4 * config.layers * config.heads * config.head_width * pairs
    return _matrix_flops(config, prefix, answers, targets) + attention


def _matrix_flops(config: DecoderConfig, prefix: Any, answers: Any, targets: Any) -> Any:
    """Of those the products with weights: float64[N]."""
    entries = sum(width_in * width_out for width_in, width_out in _matrices(config).values())
    layers = 2 * config.layers * entries * _tokens(prefix, answers)
    return layers + 2 * config.width * config.vocab_size * np.asarray(targets)


def _matrices(config: DecoderConfig) -> dict[str, tuple[int, int]]:
    """In and out of a layer's linear maps, by the names of lora.PATHS."""
    queries, keys = config.heads * config.head_width, config.kv_heads * config.head_width
    width, hidden = config.width, config.mlp_width
    return {
        "q_proj": (width, queries),
        "k_proj": (width, keys),
        "v_proj": (width, keys),
        "o_proj": (queries, width),
        "gate_proj": (width, hidden),
        "up_proj": (width, hidden),
        "down_proj": (hidden, width),
    }


def _tokens(prefix: Any, answers: Any) -> Any:
    return np.asarray(prefix, np.float64) + np.sum(np.asarray(answers, np.float64), axis=1)


def adapter_entries(config: DecoderConfig, lora: Lora) -> int:
    """Trained numbers of all adapters of a decoder."""
    sizes = _matrices(config)
    return config.layers * lora.rank * sum(sum(sizes[name]) for name in lora.targets)


def row_flops(config: Any, prefix: Any, answers: Any, targets: Any, images: Any, trained: Trained) -> Any:
    """Model FLOPs of training on rows of a config of any family: float64[N]."""
    decoder = 3 * decoder_flops(config.decoder, prefix, answers, targets)
    if trained.lora:
        adapters = 6 * adapter_entries(config.decoder, trained.lora) * _tokens(prefix, answers)
        decoder = decoder - _matrix_flops(config.decoder, prefix, answers, targets) + adapters
    return decoder + np.asarray(images) * _trained_image_flops(config, trained)


def _trained_image_flops(config: Any, trained: Trained) -> float:
    """Forward and backward of one tile. A projector that is not trained still passes the tower's gradient on."""
    if not config.tile.tokens:
        return 0.0
    tower = _tower_gradient_flops(config.vision) if trained.vision else 0.0
    projector = 2 if trained.projector else int(trained.vision)
    return image_flops(config) + tower + projector * float(config.connector_flops)


def image_flops(config: Any) -> float:
    """Forward pass of tower and projector or resampler for one tile of an image; 0 for a model without them."""
    if not config.tile.tokens:
        return 0.0
    return tower_flops(config.vision) + float(config.connector_flops)


def image_cost(config: Any, trained: Trained) -> float:
    """What training on one tile takes before the decoder, in positions of the decoder that take as much."""
    position = float(row_flops(config, [1], [[0]], [0], [0], trained)[0])
    return _trained_image_flops(config, trained) / position


def mfu(flops: float, seconds: float) -> float | None:
    """Share of the devices' bfloat16 peak that `flops` in `seconds` is; None on hardware not in the table."""
    peak = PEAK_FLOPS.get(jax.devices()[0].device_kind)
    return flops / seconds / (peak * jax.device_count()) if peak else None
