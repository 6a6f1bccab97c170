"""TRL's DPOTrainer as a contender: its own collator, loss and `training_step`, on a batch made before.

    trl               as shipped: the reference model's forward pass is part of every step, because
                      `precompute_ref_log_probs` raises for images
    trl_no_reference  without it: the trainer's switch is thrown after construction and the batch is given the columns
                      `ref_chosen_logps` and `ref_rejected_logps`, which the loss then reads as it does for text
    trl_compact       the first with the head of TRL on GPUs: hidden states are gathered at answer positions before
                      the projection. On a CPU TRL projects every position; one name in trl.trainer.utils decides
    trl_compact_no_reference  both

All of them have what makes them fast here: no gradient checkpointing, SDPA, fused AdamW (the trainer's default).
"""

import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import trl.trainer.utils
from datasets import Dataset
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlavaForConditionalGeneration, LlavaProcessor, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

from benchmarks.model import END_TOKEN, PAD_TOKEN, Sizes
from benchmarks.pairs import Pair, image_processor
from benchmarks.recipe import Recipe
from benchmarks.two_rows import gradient_norm
from rlaifv_jax.data.batch import IMAGE_TOKEN

IMAGE_TAG = "<image>"


class Trl:
    """One of the four. precomputed: without the reference pass. compact: the head as on GPUs."""

    def __init__(
        self,
        model: LlavaForConditionalGeneration,
        reference: LlavaForConditionalGeneration,
        pairs: Sequence[Pair],
        sizes: Sizes,
        recipe: Recipe,
        *,
        precomputed: bool,
        compact: bool,
    ):
        self._compact = compact
        rows = [row(pair, sizes) for pair in pairs]
        with tempfile.TemporaryDirectory() as folder:
            self._trainer = DPOTrainer(
                model,
                ref_model=reference,
                args=arguments(recipe, len(pairs), folder),
                train_dataset=Dataset.from_list([{**row, "image": None} for row in rows]),
                processing_class=processor(sizes),
            )
        trainer = self._trainer
        trainer.create_optimizer_and_scheduler(recipe.steps)
        trainer.current_gradient_accumulation_steps = 1  # `train` would set it
        self._inputs: dict[str, Any] = dict(trainer.data_collator(rows))
        if precomputed:
            with self._head():
                known = trainer.compute_ref_log_probs(trainer.ref_model, self._inputs)
            self._inputs |= zip(("ref_chosen_logps", "ref_rejected_logps"), known, strict=True)
            trainer.precompute_ref_logps = True
            trainer.ref_model = None

    def step(self) -> float:
        loss = self._backward()
        self._trainer.optimizer.step()
        self._trainer.lr_scheduler.step()
        self._trainer.optimizer.zero_grad()
        return float(loss)

    def probe(self) -> tuple[float, float]:
        loss = self._backward()
        norm = gradient_norm(self._trainer.model)
        self._trainer.optimizer.zero_grad()
        return float(loss), norm

    def _backward(self) -> torch.Tensor:
        with self._head():
            return self._trainer.training_step(self._trainer.model, self._inputs)

    @contextmanager
    def _head(self) -> Iterator[None]:
        """Let the fused head choose its positions as on a GPU, where this contender asks for it."""
        shipped = trl.trainer.utils._use_triton
        if self._compact:
            trl.trainer.utils._use_triton = lambda device: True
        try:
            yield
        finally:
            trl.trainer.utils._use_triton = shipped


def arguments(recipe: Recipe, batch: int, folder: str) -> DPOConfig:
    """float32 on the CPU, the shared recipe, nothing written."""
    return DPOConfig(
        output_dir=folder,
        per_device_train_batch_size=batch,
        beta=recipe.beta,
        learning_rate=recipe.lr,
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.beta1,
        adam_beta2=recipe.beta2,
        adam_epsilon=recipe.eps,
        lr_scheduler_type="cosine",
        max_steps=recipe.steps,
        max_grad_norm=0.0,
        max_length=None,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
    )


def row(pair: Pair, sizes: Sizes) -> dict[str, Any]:
    """A pair as TRL's vision collator takes it: a picture and texts, from which `processor` makes the pair's tokens."""
    prompt, chosen, rejected = (
        " ".join(IMAGE_TAG if token == IMAGE_TOKEN else f"w{token}" for token in tokens)
        for tokens in (pair.prompt, *pair.answers)
    )
    picture = Image.open(io.BytesIO(pair.picture)).convert("RGB")
    return {"image": picture, "prompt": prompt, "chosen": chosen, "rejected": rejected}


def processor(sizes: Sizes) -> LlavaProcessor:
    """transformers' processor for LLaVA around a tokenizer of one word for each id: 'w17' is token 17."""
    vocabulary = {f"w{token}": token for token in range(sizes.vocab)}
    for token, word in ((PAD_TOKEN, "<pad>"), (END_TOKEN, "</s>"), (sizes.image_token, IMAGE_TAG)):
        del vocabulary[f"w{token}"]
        vocabulary[word] = token
    words = Tokenizer(WordLevel(vocabulary))
    words.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", additional_special_tokens=[IMAGE_TAG]
    )
    return LlavaProcessor(
        image_processor(sizes),
        tokenizer,
        patch_size=sizes.patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # the class token, which 'default' drops again
    )
