"""The same rows through transformers' LLaVA and through ours."""

from typing import Any

import jax
import numpy as np
import torch
from transformers import LlavaForConditionalGeneration

from convert.layouts import Layout
from convert.load import StoredModel
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.models.blueprint import Blueprint, Params
from rlaifv_jax.models.layers import PLAIN
from rlaifv_jax.models.llava import LlavaConfig

START, LENGTH = 3, 17


def rows(config: LlavaConfig, vocab: int, seed: int = 0, count: int = 2) -> Batch:
    """Rows with one image each, one branch, and a target at every place behind the image."""
    rng = np.random.default_rng(seed)
    behind = START + config.tile.tokens
    tokens = rng.integers(3, vocab - 1, (count, LENGTH)).astype(np.int32)
    patches = np.full((count, LENGTH), -1, np.int32)
    patches[:, START:behind] = np.arange(config.tile.tokens)
    tokens[patches >= 0] = 0
    sources = np.tile(np.arange(behind - 1, LENGTH - 1, dtype=np.int32), (count, 1))
    flat = np.zeros(sources.shape, np.float32)
    return Batch(
        tokens=tokens,
        positions=np.tile(np.arange(LENGTH, dtype=np.int32), (count, 1)),
        segments=np.ones_like(tokens),
        branches=np.zeros_like(tokens),
        patches=patches,
        images=rng.integers(0, 256, (count, 1, *config.tile.shape), dtype=np.uint8),
        grids=np.zeros((count, 1, 2), np.int32),
        sources=sources,
        targets=np.take_along_axis(tokens, sources + 1, axis=1),
        weights=flat + 1,
        owners=flat.astype(np.int32),
        reference=flat,
        pairs=np.ones((count, 1), np.float32),
    )


def pixels(batch: Batch, config: LlavaConfig) -> torch.Tensor:
    """The images as transformers takes them: normalised float32[N, 3, height, width]."""
    mean, std = np.float32(config.image_mean), np.float32(config.image_std)
    normal = (batch.images[:, 0].astype(np.float32) / 255 - mean) / std
    return torch.from_numpy(normal.transpose(0, 3, 1, 2).copy())


def torch_logits(hf: LlavaForConditionalGeneration, batch: Batch, config: Any, image_token: int) -> torch.Tensor:
    """float32[B, T, V] by transformers."""
    ids = torch.from_numpy(np.where(batch.patches >= 0, image_token, batch.tokens)).long()
    with torch.no_grad():
        return hf(input_ids=ids, pixel_values=pixels(batch, config), attention_mask=torch.ones_like(ids)).logits


def our_logits(plan: Blueprint, params: Params, batch: Batch) -> np.ndarray:
    """float32[B, T, V] by ours."""

    @jax.jit
    def forward(params: Params, batch: Batch) -> jax.Array:
        model = plan.module(params)
        return model.hidden(batch, PLAIN) @ model.decoder.head.kernel[...]

    return np.asarray(forward(params, batch))


def assert_close_logits(
    hf: LlavaForConditionalGeneration, plan: Blueprint, params: Params, image_token: int, vocab: int
) -> float:
    """Compare all logits of the `vocab` rows that both have to 5e-5; returns the largest difference."""
    config = hf_config(plan, params)
    batch = rows(config, vocab)
    theirs = torch_logits(hf, batch, config, image_token).numpy()[..., :vocab]
    ours = our_logits(plan, params, batch)[..., :vocab]
    difference = float(np.abs(ours - theirs).max())
    assert difference <= 5e-5, difference
    return difference


def hf_config(plan: Blueprint, params: Params) -> LlavaConfig:
    return plan.module(params).config


def by_our_paths(checkpoint: StoredModel, layout: Layout, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Some tensors under the names of a layout → under our parameter paths, layers stacked."""
    found: dict[str, list[np.ndarray]] = {}
    for entry in checkpoint.entries:
        name = layout.full(entry.part, entry.name)
        if name in tensors:
            tensor = tensors[name] if entry.axes is None else tensors[name].transpose(entry.axes)
            found.setdefault(entry.path, []).append(tensor if entry.layer is None else tensor[None])
    return {path: np.concatenate(parts) if len(parts) > 1 else parts[0] for path, parts in found.items()}
