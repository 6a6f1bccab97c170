"""DPO as RLAIF-V trains: chosen and rejected in rows of their own, full logits, torch AdamW. For comparison only."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import LlavaForConditionalGeneration, get_cosine_schedule_with_warmup

from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.rows import Item


def expand(item: Item, branch: int, image_token: int) -> tuple[list[int], list[int]]:
    """Token ids of a prompt (image spread out) with one answer, and labels with -100 over the prompt."""
    prompt: list[int] = []
    for token in item.encoded.prefix.tolist():
        prompt += [image_token] * item.encoded.image_tokens if token == IMAGE_TOKEN else [token]
    answer = item.encoded.answers[branch].tokens.tolist()
    return prompt + answer, [-100] * len(prompt) + answer


def collate(items: Sequence[Item], pixels: torch.Tensor, image_token: int) -> dict[str, torch.Tensor]:
    """All chosen rows, then all rejected rows, padded on the right; the images twice."""
    rows = [expand(item, branch, image_token) for branch in (0, 1) for item in items]
    longest = max(len(ids) for ids, _ in rows)
    pad = [(ids + [0] * (longest - len(ids)), labels + [-100] * (longest - len(labels))) for ids, labels in rows]
    return {
        "input_ids": torch.tensor([ids for ids, _ in pad]),
        "labels": torch.tensor([labels for _, labels in pad]),
        "pixel_values": torch.cat([pixels, pixels]),
    }


def log_prob_sums(
    model: LlavaForConditionalGeneration,
    batch: dict[str, torch.Tensor],
    weights: torch.Tensor | None = None,
    *,
    average: bool = False,
) -> torch.Tensor:
    """Sum (or mean) of the answer's log-probs in every row, by weights float32[2N, L - 1] if given: float32[2N]."""
    logits = model(input_ids=batch["input_ids"], pixel_values=batch["pixel_values"]).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    mask = labels != -100
    chosen = torch.gather(logits.log_softmax(-1), 2, labels.where(mask, 0)[..., None])[..., 0]
    weights = mask.float() if weights is None else mask * weights
    return (chosen * weights).sum(-1) / (weights.sum(-1) if average else 1)


def dpo_loss(sums: torch.Tensor, reference: torch.Tensor, beta: float) -> torch.Tensor:
    """Mean DPO loss of 2N sums, chosen first."""
    pairs = len(sums) // 2
    z = (sums[:pairs] - sums[pairs:]) - (reference[:pairs] - reference[pairs:])
    return -torch.nn.functional.logsigmoid(beta * z).mean()


def adamw(model: LlavaForConditionalGeneration, lr: float, weight_decay: float, steps: int) -> tuple[Any, Any]:
    """(optimizer, schedule) over everything but the image tower, biases and norms not decayed."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "vision_tower" not in name
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for name, p in trained if not _plain(name)], "weight_decay": weight_decay},
        {"params": [p for name, p in trained if _plain(name)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.999), eps=1e-8)
    return optimizer, get_cosine_schedule_with_warmup(optimizer, 0, steps)


def _plain(name: str) -> bool:
    return name.endswith("bias") or "norm" in name


def gradients(model: LlavaForConditionalGeneration) -> dict[str, np.ndarray]:
    return {name: p.grad.numpy().copy() for name, p in model.named_parameters() if p.grad is not None}
