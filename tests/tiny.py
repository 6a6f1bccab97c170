"""A LLaVA small enough for every test, and rows to feed it."""

import functools
from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from rlaifv_jax.data.batch import IMAGE_TOKEN, Batch
from rlaifv_jax.data.encode import Answer, Encoded
from rlaifv_jax.data.rows import Item, RowShape, build_rows
from rlaifv_jax.data.tiles import in_order, one_tile
from rlaifv_jax.losses import Objective
from rlaifv_jax.models.blueprint import Params, blueprint, random_params
from rlaifv_jax.models.clip_vit import ClipVitConfig
from rlaifv_jax.models.decoder import DecoderConfig
from rlaifv_jax.models.layers import PLAIN
from rlaifv_jax.models.llava import Llava, LlavaConfig
from rlaifv_jax.optim import Optim
from rlaifv_jax.step import Step

VISION = ClipVitConfig(
    width=32, mlp_width=64, layers=3, heads=4, image_size=28, patch_size=14, norm_eps=1e-5, feature_layer=-2
)
DECODER = DecoderConfig(
    vocab_size=99,
    width=48,
    mlp_width=96,
    layers=2,
    heads=4,
    kv_heads=2,
    head_width=12,
    rope_theta=1e4,
    rms_eps=1e-5,
    window=None,
)
CONFIG = LlavaConfig(
    VISION,
    DECODER,
    image_mean=(0.48145466, 0.4578275, 0.40821073),
    image_std=(0.26862954, 0.26130258, 0.27577711),
)
BLUEPRINT = blueprint(Llava, CONFIG)
COMPUTE = replace(PLAIN, remat="full")
DPO = Objective("dpo", beta=0.1, average=False, sft_weight=0.0, reference_bfloat16=False)
SFT = Objective("sft", beta=0.1, average=False, sft_weight=0.0, reference_bfloat16=False)
OPTIM = Optim(
    lr=1e-4,
    weight_decay=0.01,
    warmup_ratio=0.0,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    grad_clip=0.0,
    first_moment="float32",
    steps=100,
)
SHAPE = RowShape(row_length=64, targets=32, tile=CONFIG.tile)
FROZEN = ("vision",)


def step(objective: Objective = DPO, dtype: str = "float32") -> Step:
    return Step(BLUEPRINT, objective, COMPUTE, dtype)


@functools.cache
def params(seed: int = 0, scale: float = 3.0) -> Params:
    """Random weights; larger than an initialisation, so that mistakes are not drowned in near-uniform outputs."""
    random = random_params(Llava, CONFIG, seed)
    return {name: _scale(part, scale) for name, part in random.items()}


def _scale(tree: Params, scale: float) -> Params:
    return {
        name: _scale(leaf, scale) if isinstance(leaf, dict) else leaf if name in ("scale", "bias") else leaf * scale
        for name, leaf in tree.items()
    }


def encoded(rng: np.random.Generator, *, image: bool = True, answers: int = 2, longest: int = 14) -> Encoded:
    """A random example: a prompt with or without an image, and answers of 1 to `longest` tokens."""
    prefix = rng.integers(3, DECODER.vocab_size, rng.integers(6, 16)).astype(np.int32)
    if image:
        prefix[3] = IMAGE_TOKEN
    tokens = [rng.integers(3, DECODER.vocab_size, rng.integers(1, longest)).astype(np.int32) for _ in range(answers)]
    branches = tuple(Answer(t, np.ones(len(t), bool)) for t in tokens)
    return Encoded(prefix, branches, (False,) * answers, in_order(SHAPE.tile.tokens) if image else None)


def item(rng: np.random.Generator, *, answers: int = 2, image: bool = True) -> Item:
    """A random example with a random picture and random reference log-probs."""
    example = encoded(rng, image=image, answers=answers)
    tiles = one_tile(rng.integers(0, 256, SHAPE.tile.shape, dtype=np.uint8)) if image else None
    reference = [rng.normal(-3, 1, int(a.labels.sum())).astype(np.float32) for a in example.answers]
    return Item(example, tiles, reference)


def batch(rows: list[list[Item]], shape: RowShape = SHAPE, accumulate: int = 1) -> Batch:
    """Rows as the steps take them, leaves `[A, B, …]`."""
    flat = build_rows(rows, shape)
    return Batch(*(jnp.asarray(leaf).reshape(accumulate, len(rows) // accumulate, *leaf.shape[1:]) for leaf in flat))
