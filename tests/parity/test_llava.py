"""LLaVA against transformers: float32, random weights and norms. A wrong eps moves log-probs by 4e-5."""

from typing import NamedTuple

import jax
import numpy as np
import pytest
import torch

from convert.load import StoredModel, open_model
from rlaifv_jax.models.blueprint import Params
from rlaifv_jax.parallel import make_mesh
from tests.convert.llavas import TinyLlava
from tests.parity.forward import PLAIN, assert_close_logits, pixels, rows, torch_logits


class Pair(NamedTuple):
    hf: TinyLlava
    checkpoint: StoredModel
    params: Params


@pytest.fixture(scope="module", params=[4, 2], ids=["multi-head", "grouped"])
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    hf = TinyLlava(kv_heads=request.param, seed=request.param)
    checkpoint = open_model(hf.write(tmp_path_factory.mktemp("llava"), "transformers-5"))
    return Pair(hf, checkpoint, checkpoint.load(make_mesh(1, 1, 1, jax.devices()[:1])))


def test_tower(pair: Pair) -> None:
    config = pair.checkpoint.config
    batch = rows(config, 99)
    images = pixels(batch, config)
    with torch.no_grad():
        states = pair.hf.torch.model.vision_tower(images, output_hidden_states=True).hidden_states
    theirs = states[-2][:, 1:].numpy()
    model = pair.checkpoint.blueprint.module(pair.params)
    ours = model.vision(images.permute(0, 2, 3, 1).numpy(), PLAIN)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


def test_projector(pair: Pair) -> None:
    features = np.random.default_rng(0).normal(size=(2, 4, 32)).astype(np.float32)
    with torch.no_grad():
        theirs = pair.hf.torch.model.multi_modal_projector(torch.from_numpy(features)).numpy()
    ours = pair.checkpoint.blueprint.module(pair.params).projector(features)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


def test_logits(pair: Pair) -> None:
    assert_close_logits(pair.hf.torch, pair.checkpoint.blueprint, pair.params, image_token=98, vocab=99)


def test_log_probs(pair: Pair) -> None:
    config = pair.checkpoint.config
    plan = pair.checkpoint.blueprint
    log_probs = jax.jit(lambda params, batch: plan.module(params).log_probs(batch, PLAIN))
    for seed in range(3):
        batch = rows(config, 99, seed=seed)
        table = torch_logits(pair.hf.torch, batch, config, image_token=98).log_softmax(-1).numpy()
        row = np.arange(len(batch.tokens))[:, None]
        theirs = table[row, batch.sources, batch.targets]
        ours = log_probs(pair.params, batch)
        np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=0)
