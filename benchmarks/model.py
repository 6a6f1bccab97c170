"""One small LLaVA for every contender: the same random weights in PyTorch and in JAX.

Weights are drawn once by PyTorch from a fixed seed and read by this project through `convert`, as a
checkpoint from the hub would be.
"""

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from convert.load import StoredModel, open_model
from rlaifv_jax.data.square import Square
from rlaifv_jax.models.blueprint import Blueprint, Params, blueprint, cast, random_params
from rlaifv_jax.models.families import parse_llava
from rlaifv_jax.models.llava import Llava
from rlaifv_jax.parallel import make_mesh

PAD_TOKEN = 0
END_TOKEN = 2
FIRST_WORD = 3  # token ids below it are special


@dataclass(frozen=True)
class Sizes:
    """Of a LLaVA. feature_layer: of the tower, counted as transformers counts hidden states."""

    vocab: int
    width: int
    mlp_width: int
    layers: int
    heads: int
    tower_width: int
    tower_mlp_width: int
    tower_layers: int
    tower_heads: int
    image_size: int
    patch_size: int
    feature_layer: int

    @property
    def image_token(self) -> int:
        """The id that stands for an image patch with transformers: the last row of the vocabulary."""
        return self.vocab - 1

    @property
    def image_tokens(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def square(self) -> Square:
        """How this project prepares pictures."""
        return Square.of(self.image_size, self.image_tokens)


# LLaVA-1.5's image and vocabulary around a model that two CPU cores can train. Features come from the tower's last
# layer: with transformers the layers behind the feature layer are computed for nothing, of 4 that would be many.
SMALL = Sizes(
    vocab=32000,
    width=256,
    mlp_width=688,
    layers=4,
    heads=4,
    tower_width=256,
    tower_mlp_width=1024,
    tower_layers=4,
    tower_heads=4,
    image_size=336,
    patch_size=14,
    feature_layer=-1,
)
# The same for tests.
TINY = replace(
    SMALL,
    vocab=101,
    width=32,
    mlp_width=64,
    layers=2,
    heads=2,
    tower_width=32,
    tower_mlp_width=64,
    tower_layers=2,
    tower_heads=2,
    image_size=56,
)
LLAVA_7B = replace(
    SMALL,
    width=4096,
    mlp_width=11008,
    layers=32,
    heads=32,
    tower_width=1024,
    tower_mlp_width=4096,
    tower_layers=24,
    tower_heads=16,
    feature_layer=-2,
)


def hf_config(sizes: Sizes) -> LlavaConfig:
    """For transformers, with the attention it chooses by default: PyTorch's SDPA."""
    tower = CLIPVisionConfig(
        hidden_size=sizes.tower_width,
        intermediate_size=sizes.tower_mlp_width,
        num_hidden_layers=sizes.tower_layers,
        num_attention_heads=sizes.tower_heads,
        image_size=sizes.image_size,
        patch_size=sizes.patch_size,
    )
    text = LlamaConfig(
        vocab_size=sizes.vocab,
        hidden_size=sizes.width,
        intermediate_size=sizes.mlp_width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_theta": 10000.0, "rope_type": "default"},
        pad_token_id=PAD_TOKEN,
    )
    return LlavaConfig(
        vision_config=tower,
        text_config=text,
        image_token_index=sizes.image_token,
        vision_feature_layer=sizes.feature_layer,
    )


def torch_model(
    sizes: Sizes, seed: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> LlavaForConditionalGeneration:
    """A LLaVA of transformers with random weights, its image tower frozen as in the published recipe."""
    torch.manual_seed(seed)
    with torch.device(device):
        model: Any = LlavaForConditionalGeneration(hf_config(sizes)).to(dtype)  # type: ignore[arg-type]  # a dtype
    model.config.text_config.use_cache = False
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "vision_tower" not in name
    return model.train()  # no dropout anywhere; what a trainer would run


def ours(model: LlavaForConditionalGeneration) -> tuple[StoredModel, Params]:
    """The same weights as this project loads them: (opened model, parameters on the first device)."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        stored = open_model(Path(folder))
        return stored, stored.load(make_mesh(1, 1, 1, jax.devices()[:1]))


def our_blueprint(sizes: Sizes) -> Blueprint:
    """The same model for this project, without weights."""
    raw = json.loads(hf_config(sizes).to_json_string(use_diff=False))
    return blueprint(Llava, parse_llava(raw, "benchmarks.model"))


@dataclass(frozen=True)
class Opened:
    """A model without files, as far as the engine looks at it."""

    config: Any
    blueprint: Any


def both(sizes: Sizes, dtype: str, *, real: bool) -> tuple[LlavaForConditionalGeneration, Any, Params]:
    """(PyTorch's model, this project's, its parameters) on the GPU or, without one, the CPU, in `dtype`.

    real: the same weights on both sides; otherwise, for models too large to be written and read, other random ones,
    since speed does not depend on the values.
    """
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    llava = torch_model(sizes, 0, device, getattr(torch, dtype))
    if not real:
        plan = our_blueprint(sizes)
        opened = Opened(plan.module(plan.shapes).config, plan)
        return llava, opened, random_params(Llava, opened.config, 0, dtype)
    stored, params = ours(llava.float())
    return llava.to(getattr(torch, dtype)), stored, cast(params, dtype)
