import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import get_cosine_schedule_with_warmup

from rlaifv_jax import optim
from tests import tiny


@pytest.mark.parametrize(("steps", "ratio", "warmup"), [(2672, 0.05, 134), (20, 0.1, 2), (7, 0.0, 0)])
def test_schedule_equals_transformers(steps, ratio, warmup):
    ours = optim.schedule(dataclasses.replace(tiny.OPTIM, lr=5e-7, steps=steps, warmup_ratio=ratio))
    dummy = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=5e-7)
    theirs = get_cosine_schedule_with_warmup(dummy, warmup, steps)
    for step in range(steps):
        np.testing.assert_allclose(ours(step), theirs.get_last_lr()[0], rtol=1e-4, atol=1e-13)
        dummy.step()
        theirs.step()


def test_adamw_equals_torch_with_decay_mask():
    rng = np.random.default_rng(0)
    start = {"a": {"kernel": rng.normal(size=(3, 4))}, "n": {"scale": rng.normal(size=4)}}
    params = jax.tree.map(lambda x: jnp.array(x, jnp.float32), start)
    config = dataclasses.replace(tiny.OPTIM, lr=1e-2, weight_decay=0.1)
    transform = optim.optimizer(config)
    state = transform.init(params)
    kernel = torch.nn.Parameter(torch.tensor(start["a"]["kernel"], dtype=torch.float32))
    scale = torch.nn.Parameter(torch.tensor(start["n"]["scale"], dtype=torch.float32))
    groups = [{"params": [kernel], "weight_decay": 0.1}, {"params": [scale], "weight_decay": 0.0}]
    theirs = torch.optim.AdamW(groups, lr=1e-2, betas=(0.9, 0.999), eps=1e-8)
    lr = get_cosine_schedule_with_warmup(theirs, 0, 100)
    for _ in range(5):
        gradients = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), start)
        updates, state = transform.update(gradients, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        kernel.grad = torch.tensor(gradients["a"]["kernel"])
        scale.grad = torch.tensor(gradients["n"]["scale"])
        theirs.step()
        lr.step()
    np.testing.assert_allclose(params["a"]["kernel"], kernel.detach(), atol=1e-6)
    np.testing.assert_allclose(params["n"]["scale"], scale.detach(), atol=1e-6)


def test_clipping_bounds_the_global_norm():
    params = {"a": {"kernel": jnp.zeros(4)}}
    gradients = {"a": {"kernel": jnp.array([3.0, 4.0, 0.0, 0.0])}}
    first = {}
    for clip in (0.0, 1.0):
        transform = optim.optimizer(dataclasses.replace(tiny.OPTIM, grad_clip=clip))
        _, state = transform.update(gradients, transform.init(params), params)
        first[clip] = float(np.abs(jax.tree.leaves(state[1][0].mu)[0]).max())
    assert first[0.0] == pytest.approx(0.4, rel=1e-5)
    assert first[1.0] == pytest.approx(0.08, rel=1e-5)


def test_decay_skips_biases_and_norms():
    mask = optim.decayed(tiny.BLUEPRINT.shapes)
    assert mask["decoder"]["layers"]["mlp"]["gate"]["kernel"]
    assert mask["decoder"]["embedding"]
    assert mask["vision"]["class_token"]
    assert not mask["projector"]["first"]["bias"]
    assert not mask["decoder"]["norm"]["scale"]
    assert not mask["vision"]["pre_norm"]["bias"]
