"""PyTorch contenders that train as RLAIF-V does: chosen and rejected in rows of their own, images twice.

All have what makes them fast here: SDPA attention without a mask (rows are padded on the right, where causal
attention needs none), no gradient checkpointing, fused AdamW, reference log-probs computed before. The layout of rows
and the loss are those of the parity tests. `Original` is what RLAIF-V does; nobody ships the others, they show how much
of the difference is the layout and how much is waste elsewhere.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import LlavaForConditionalGeneration, get_cosine_schedule_with_warmup

from benchmarks.model import Sizes
from benchmarks.pairs import Pair, items, normalized
from benchmarks.recipe import Recipe
from tests.parity.two_rows import collate, dpo_loss, log_prob_sums


class Original:
    """Logits and log-softmax of every position, as muffin/eval/muffin_inference_logp.py (get_batch_logps)."""

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        reference: LlavaForConditionalGeneration,
        pairs: Sequence[Pair],
        sizes: Sizes,
        recipe: Recipe,
    ):
        self._model, self._beta = model, recipe.beta
        pixels = normalized(pairs, sizes).to(model.dtype)
        batch = collate(items(pairs, sizes), pixels, sizes.image_token)
        self._batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
        with torch.no_grad():
            self._reference = log_prob_sums(reference, self._batch)
        self._optimizer = adamw(model, recipe)
        self._schedule = get_cosine_schedule_with_warmup(self._optimizer, 0, recipe.steps)

    def log_prob_sums(self) -> torch.Tensor:
        """Of the answers: float32[2N], chosen first."""
        return log_prob_sums(self._model, self._batch)

    def step(self) -> float:
        loss = dpo_loss(self.log_prob_sums(), self._reference, self._beta)
        loss.backward()
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        return loss.item()

    def probe(self) -> tuple[float, float]:
        loss = dpo_loss(self.log_prob_sums(), self._reference, self._beta)
        loss.backward()
        norm = gradient_norm(self._model)
        self._optimizer.zero_grad()
        return loss.item(), norm


class CompletionOnly(Original):
    """The same rows, but only hidden states that predict an answer's token meet the vocabulary."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        labels = self._batch["labels"][:, 1:]
        self._rows, self._columns = (labels != -100).nonzero(as_tuple=True)
        self._targets = labels[self._rows, self._columns]

    def hidden(self) -> torch.Tensor:
        """Of every position: [2N, T, D]."""
        ids, pixels = self._batch["input_ids"], self._batch["pixel_values"]
        return self._model.model(input_ids=ids, pixel_values=pixels).last_hidden_state

    def log_prob_sums(self) -> torch.Tensor:
        logits = self._model.lm_head(self.hidden()[self._rows, self._columns])  # [answer tokens, V]
        values = logits.gather(1, self._targets[:, None])[:, 0] - logits.logsumexp(-1)
        return values.new_zeros(len(self._batch["labels"])).index_add(0, self._rows, values)


class TwoRowsBest(CompletionOnly):
    """The most that PyTorch gives in this layout: images once for each pair, and all of it through torch.compile."""

    def __init__(self, *arguments: Any):
        super().__init__(*arguments)
        self._compiled = torch.compile(super().log_prob_sums)

    def hidden(self) -> torch.Tensor:
        llava, ids, pixels = self._model.model, self._batch["input_ids"], self._batch["pixel_values"]
        features = llava.get_image_features(pixel_values=pixels[: len(pixels) // 2]).pooler_output
        features = torch.cat([*features, *features]).to(self._model.dtype)  # [2N · P, D]
        places = (ids == self._model.config.image_token_id)[..., None]
        embedded = llava.get_input_embeddings()(ids).masked_scatter(places, features)
        return llava.language_model(inputs_embeds=embedded).last_hidden_state

    def log_prob_sums(self) -> torch.Tensor:
        return self._compiled()


TWO_ROWS = {"original": Original, "completion_only": CompletionOnly, "two_rows_best": TwoRowsBest}


def adamw(model: torch.nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """Over what is trained; matrices decay, norms and biases do not."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=(recipe.beta1, recipe.beta2), eps=recipe.eps, fused=True)


def gradient_norm(model: torch.nn.Module) -> float:
    """Global norm of the gradients that `backward` left."""
    return float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
