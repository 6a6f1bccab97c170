"""Muffin against torchscale's BEiT-3, PyTorch's linear map, transformers' Llama: float32, random weights and norms."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from convert.layouts import MUFFIN as NAMES
from convert.load import StoredModel, open_model
from rlaifv_jax import flops
from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.encode import Encoded
from rlaifv_jax.data.tiles import one_tile, squares
from rlaifv_jax.data.tokenizer import load_tokenizer
from rlaifv_jax.jaxpr_flops import dot_flops
from rlaifv_jax.models.beit3 import gelu
from rlaifv_jax.models.blueprint import Params, flat, join, split_frozen, unstack
from rlaifv_jax.models.families import MUFFIN, Trained
from rlaifv_jax.models.layers import PLAIN
from rlaifv_jax.models.seeing import normalize
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.sampling.engine import Engine
from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.settings import Sampling
from rlaifv_jax.step import Step, log_probs
from tests import tiny
from tests.convert.muffins import TinyMuffin, write_muffin_tokenizer
from tests.parity.forward import by_our_paths, our_logits, pixels, rows
from tests.sampling.talker import END, cut_at_end, in_order, tokens

ONE_DEVICE = make_mesh(1, 1, 1, jax.devices()[:1])
EXPERTS_OF_QUERIES = MUFFIN.untrained(Trained(vision=True))


class Pair(NamedTuple):
    theirs: TinyMuffin
    checkpoint: StoredModel
    params: Params


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    theirs = TinyMuffin()
    checkpoint = open_model(theirs.write(tmp_path_factory.mktemp("muffin")))
    return Pair(theirs, checkpoint, checkpoint.load(ONE_DEVICE))


@pytest.mark.parametrize("backend", ["dense", "blocked"])
def test_encoder(pair: Pair, backend: str) -> None:
    config = pair.checkpoint.config
    images = pixels(rows(config, 99), config)
    with torch.no_grad():
        theirs = pair.theirs.vision(images).numpy()
    compute = replace(PLAIN, tower_attention=backend)
    ours = pair.checkpoint.blueprint.module(pair.params).vision(images.permute(0, 2, 3, 1).numpy(), compute)
    assert ours.shape == (2, 5, 32)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


def test_gelu_is_float32_inside() -> None:
    """Of bfloat16, as torchscale's MLP computes it: nothing but the result is rounded.

    Exactly, down to where PyTorch's own float32 loses digits.
    """
    x = torch.linspace(-3, 6, 4001).bfloat16()
    theirs = torch.nn.functional.gelu(x.float()).type_as(x)
    ours = gelu(jnp.asarray(x.float().numpy(), jnp.bfloat16))
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(ours, np.float32), theirs.float().numpy())


@pytest.mark.parametrize("seed", range(3))
def test_logits(pair: Pair, seed: int) -> None:
    config = pair.checkpoint.config
    batch = rows(config, 99, seed)
    ids, image = (torch.from_numpy(array).long() for array in (batch.tokens, batch.patches))
    with torch.no_grad():
        theirs = pair.theirs.logits(ids, image, pixels(batch, config))
    ours = our_logits(pair.checkpoint.blueprint, pair.params, batch)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4, rtol=0)
    assert theirs.abs().max() > 0.5
    found = pair.checkpoint.blueprint.module(pair.params).log_probs(batch, PLAIN)
    np.testing.assert_allclose(found, target_log_probs(theirs, batch).numpy(), atol=2e-5, rtol=0)


def target_log_probs(logits: torch.Tensor, batch: tiny.Batch) -> torch.Tensor:
    """[B, R], as the batch lists its targets."""
    sources, targets = (torch.from_numpy(array).long() for array in (batch.sources, batch.targets))
    every = logits.log_softmax(-1).gather(1, sources[..., None].expand(-1, -1, logits.shape[-1]))
    return every.gather(2, targets[..., None])[..., 0]


def test_gradients(pair: Pair) -> None:
    """They equal PyTorch's, reach the queries, their experts, the linear map and the decoder, and nothing else."""
    config = pair.checkpoint.config
    batch = rows(config, 99)
    step = Step(pair.checkpoint.blueprint, tiny.DPO, tiny.COMPUTE, "float32")
    params, frozen = split_frozen(pair.params, EXPERTS_OF_QUERIES)
    ours = flat(jax.jit(jax.grad(lambda p: jnp.sum(log_probs(p, frozen, batch, step))))(params))
    ids, image = (torch.from_numpy(array).long() for array in (batch.tokens, batch.patches))
    target_log_probs(pair.theirs.logits(ids, image, pixels(batch, config)), batch).sum().backward()
    found = {name: p.grad.numpy() for name, p in pair.theirs.parameters().items() if p.grad is not None}
    theirs = by_our_paths(pair.checkpoint, NAMES, found)
    assert "vision/queries/query" in ours
    assert not [path for path in ours if "image" in path.split("/")]
    for path, gradient in ours.items():
        wanted = theirs[path]
        np.testing.assert_allclose(gradient, wanted, atol=2e-5 * max(1.0, np.abs(wanted).max()), err_msg=path)
        if not path.endswith("key/bias"):  # to which attention is indifferent
            assert np.abs(gradient).max() > 1e-4, path


def test_operations(pair: Pair) -> None:
    """The formula against the products of a traced forward pass, and of one with gradients of what is trained."""
    config = pair.checkpoint.config
    images = rows(config, 99, count=1).images[:, 0]
    learning, frozen = split_frozen(pair.params, EXPERTS_OF_QUERIES)

    def seen(learning: Params) -> jax.Array:
        return jnp.sum(pair.checkpoint.blueprint.module(join(learning, frozen)).image_features(squares(images), PLAIN))

    assert dot_flops(jax.make_jaxpr(seen)(learning)) == pytest.approx(flops.image_flops(config), rel=1e-6)
    text = flops.row_flops(config, [9], [[1, 1]], [2], [0], Trained(vision=True))
    counted = flops.row_flops(config, [9], [[1, 1]], [2], [1], Trained(vision=True)) - text
    traced = dot_flops(jax.make_jaxpr(jax.value_and_grad(seen))(learning))
    assert traced == pytest.approx(counted[0], rel=1e-6)


# ------------------------------------------------------------------------------- speaking


QUESTIONS = ("what ?", "describe the image .", "is there a red car on the table ?")


@pytest.mark.parametrize("beams", [1, 3])
def test_generation_is_token_for_token(tokenizer_dir: Path, tmp_path: Path, beams: int) -> None:
    """transformers' `generate` on embeddings, in which pictures stand where their tokens stand here."""
    theirs = TinyMuffin(vocab=648, seed=1, gain=2)
    tokenizer = load_tokenizer(write_muffin_tokenizer(tmp_path / "tokenizer", tokenizer_dir))
    checkpoint = open_model(theirs.write(tmp_path / "model", tokenizer=tmp_path / "tokenizer"))
    config, rng = checkpoint.config, np.random.default_rng(0)
    prompts, wanted = [], []
    for number, question in enumerate(QUESTIONS):
        start, patch, end = (tokenizer.encode_bare(text)[0] for text in ("<im_start>", "<im_patch>", "<im_end>"))
        head, tail = tokenizer.encode("### Human:"), tokenizer.encode_bare(f"{question} ###")
        picture = rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        prefix = np.array([*head, start, IMAGE_TOKEN, end, *tail], np.int32)
        prompts.append(
            Prompt(Encoded(prefix, (), (), config.processor("").uniform), one_tile(picture), question, number)
        )
        ids = torch.tensor([[*head, start, *[patch] * 5, end, *tail]])
        image = torch.where(ids == patch, (ids == patch).cumsum(1) - 1, -1)
        seen = np.asarray(normalize(picture, config.image_mean, config.image_std)).transpose(2, 0, 1).copy()
        with torch.no_grad():
            x = theirs.embeddings(ids, image, torch.from_numpy(seen)[None])
            options = {"do_sample": False, "eos_token_id": END, "pad_token_id": 0, "max_new_tokens": 24}
            said = theirs.decoder.generate(
                inputs_embeds=x, attention_mask=torch.ones_like(ids), num_beams=beams, **options
            )
        wanted.append(cut_at_end(said[0].tolist(), [END]))
    params = unstack(checkpoint.load(ONE_DEVICE))
    engine = Engine(checkpoint, params, ONE_DEVICE, tokenizer, (END,), Sampling(num_beams=beams, max_new_tokens=24))
    assert tokens(in_order(engine.generate(prompts))) == wanted
    assert len({tuple(answer) for answer in wanted}) == len(QUESTIONS)
    assert all(len(set(answer)) > 3 for answer in wanted)
