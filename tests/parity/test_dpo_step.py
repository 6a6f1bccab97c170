"""The whole step against PyTorch, float32: shared layout here, two rows and full logits there."""

import dataclasses
from functools import partial

import jax
import numpy as np
import pytest
import torch

from convert.layouts import named
from convert.load import StoredModel, open_model
from rlaifv_jax.data.differences import Differences
from rlaifv_jax.data.encode import Answer
from rlaifv_jax.data.rows import Item
from rlaifv_jax.losses import Objective, evaluate
from rlaifv_jax.models.blueprint import flat, join, split_frozen
from rlaifv_jax.optim import optimizer
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.step import Step, init_state, log_probs, train_step
from tests import tiny
from tests.convert.llavas import TinyLlava
from tests.parity import two_rows
from tests.parity.forward import by_our_paths

IMAGE = 98
PACKED = dataclasses.replace(tiny.SHAPE, row_length=128, targets=64, images=2, pairs=2)
OPTIM = dataclasses.replace(tiny.OPTIM, lr=1e-4, weight_decay=0.01, steps=100)


@pytest.fixture(scope="module", params=[4, 2], ids=["multi-head", "grouped"])
def setting(request, tmp_path_factory):
    """(torch model, our checkpoint, items with torch's own reference log-probs, torch batch, torch reference)."""
    hf = TinyLlava(kv_heads=request.param, seed=request.param)
    checkpoint = open_model(hf.write(tmp_path_factory.mktemp("llava"), "transformers-5"))
    rng = np.random.default_rng(0)
    items = [tiny.item(rng) for _ in range(6)]
    batch = two_rows.collate(items, pixels(items, checkpoint.config), IMAGE)
    with torch.no_grad():
        reference = two_rows.log_prob_sums(hf.torch, batch)
    return hf.torch, checkpoint, items, batch, reference


def pixels(items, config) -> torch.Tensor:
    images = np.concatenate([item.image.pixels for item in items]).astype(np.float32) / 255
    images = (images - np.float32(config.image_mean)) / np.float32(config.image_std)
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def corrected(item: Item, rng: np.random.Generator) -> Item:
    """The rejected answer becomes the chosen one with other tokens in the middle; these weigh 5."""
    chosen = rng.integers(3, tiny.DECODER.vocab_size, 12).astype(np.int32)
    wrong = rng.integers(3, tiny.DECODER.vocab_size, rng.integers(1, 4)).astype(np.int32)
    rejected = np.concatenate([chosen[:5], wrong, chosen[7:]])
    answers = tuple(Answer(tokens, np.ones(len(tokens), bool)) for tokens in (chosen, rejected))
    encoded = dataclasses.replace(item.encoded, answers=answers)
    marks = Differences("answers", spread_image=False, pad=0).marks(encoded)
    return Item(encoded, item.image, None, [np.where(each, np.float32(5), np.float32(1)) for each in marks])


def assert_same_gradients(found, expected):
    assert found.keys() == expected.keys()
    for path, gradient in found.items():
        scale = np.abs(expected[path]).max()
        np.testing.assert_allclose(gradient, expected[path], atol=1e-5 * scale, rtol=0, err_msg=path)


def start(checkpoint: StoredModel, items, objective=tiny.DPO):
    params, frozen = split_frozen(checkpoint.load(make_mesh(1, 1, 1, jax.devices()[:1])), ("vision",))
    step = Step(checkpoint.blueprint, objective, tiny.COMPUTE, "float32")
    rows = tiny.batch([[item] for item in items])
    first = jax.tree.map(lambda leaf: leaf[0], rows)
    reference = jax.jit(partial(log_probs, step=step))(params, frozen, first)
    return params, frozen, step, rows._replace(reference=reference[None])


def theirs(checkpoint: StoredModel, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors under transformers' names → under our parameter paths, layers stacked."""
    return by_our_paths(checkpoint, named("llava", "transformers-5"), tensors)


def test_loss_and_gradients_of_the_first_update(setting):
    model, checkpoint, items, batch, reference = setting
    # A reference that is not the policy itself, so that pairs weigh differently.
    shift = torch.linspace(-3, 3, len(reference))
    model.zero_grad()
    two_rows.adamw(model, 1e-4, 0.01, 100)
    loss = two_rows.dpo_loss(two_rows.log_prob_sums(model, batch), reference + shift, beta=0.1)
    loss.backward()

    params, frozen, step, rows = start(checkpoint, items)
    rows = jax.tree.map(lambda leaf: leaf[0], rows)
    per_target = np.zeros(rows.reference.shape, np.float32)
    for row, item in enumerate(items):
        for branch, answer in enumerate(item.encoded.answers):
            first = 0 if branch == 0 else len(item.encoded.answers[0].tokens)
            per_target[row, first] = shift[row + branch * len(items)]  # any share of a sum does
            assert len(answer.tokens)
    rows = rows._replace(reference=rows.reference + per_target)

    def ours(params):
        sums = evaluate(log_probs(params, frozen, rows, step), rows, step.objective)
        return sums.loss / sums.divisor

    value, gradients = jax.jit(jax.value_and_grad(ours))(params)
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    assert_same_gradients(flat(gradients), theirs(checkpoint, two_rows.gradients(model)))


@pytest.mark.parametrize("average", [False, True])
def test_loss_and_gradients_of_dense_dpo(setting, average):
    """Changed tokens weigh 5 in policy and reference; the original's sums, and the paper's division by the weights."""
    model, checkpoint, items, _, _ = setting
    beta, rng = 0.5 if average else 0.1, np.random.default_rng(3)
    items = [corrected(item, rng) for item in items]
    batch = two_rows.collate(items, pixels(items, checkpoint.config), IMAGE)
    weights = torch.ones(batch["input_ids"].shape[0], batch["input_ids"].shape[1] - 1)
    for branch in (0, 1):
        for number, item in enumerate(items):
            ids, labels = two_rows.expand(item, branch, IMAGE)
            first = labels.count(-100) - 1
            weights[branch * len(items) + number, first : len(ids) - 1] = torch.from_numpy(item.weights[branch])
    assert (weights == 5).any()
    with torch.no_grad():
        offset = torch.linspace(-1, 1, len(weights))
        reference = two_rows.log_prob_sums(model, batch, weights, average=average) + offset
    model.zero_grad()
    loss = two_rows.dpo_loss(two_rows.log_prob_sums(model, batch, weights, average=average), reference, beta)
    loss.backward()

    params, frozen, step, _ = start(checkpoint, items, Objective("dpo", beta, average, 0.0, False))
    rows = jax.tree.map(lambda leaf: leaf[0], tiny.batch([items[:2], items[2:4], items[4:]], PACKED))
    known = jax.jit(partial(log_probs, step=step))(params, frozen, rows)
    # The same offset of every answer's sum or mean, put on all of its targets.
    shift = np.zeros(rows.reference.shape, np.float32)
    for row in range(3):
        for owner in range(4):
            mine = (np.asarray(rows.owners[row]) == owner) & (np.asarray(rows.weights[row]) > 0)
            total = 1.0 if average else float(rows.weights[row][mine].sum())
            shift[row, mine] = offset[(owner % 2) * len(items) + 2 * row + owner // 2] / total
    rows = rows._replace(reference=known + shift)

    def ours(params):
        sums = evaluate(log_probs(params, frozen, rows, step), rows, step.objective)
        return sums.loss / sums.divisor

    value, gradients = jax.jit(jax.value_and_grad(ours))(params)
    np.testing.assert_allclose(value, loss.item(), rtol=1e-5)
    assert_same_gradients(flat(gradients), theirs(checkpoint, two_rows.gradients(model)))


def test_five_updates(setting):
    model, checkpoint, items, batch, reference = setting
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    adamw, schedule = two_rows.adamw(model, OPTIM.lr, OPTIM.weight_decay, OPTIM.steps)
    params, frozen, step, rows = start(checkpoint, items)
    transform = optimizer(OPTIM)
    state = init_state(params, frozen, transform)
    update = jax.jit(partial(train_step, step=step, optimizer=transform))
    for number in range(5):
        adamw.zero_grad()
        loss = two_rows.dpo_loss(two_rows.log_prob_sums(model, batch), reference, beta=0.1)
        loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
        adamw.step()
        schedule.step()
        state, metrics = update(state, rows)
        np.testing.assert_allclose(metrics["loss"], loss.item(), atol=2e-5, rtol=0)
        np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-4)
        if number == 0:
            np.testing.assert_allclose(metrics["loss"], np.log(2), atol=1e-6)

    expected = theirs(checkpoint, {name: p.detach().numpy() for name, p in model.named_parameters()})
    moved = 0.0
    for path, value in flat(join(state.params, state.frozen)).items():
        difference = np.abs(np.asarray(value) - expected[path])
        assert difference.mean() < 5e-7, path
        assert np.quantile(difference, 0.999) < 5e-6, path
        moved = max(moved, float(np.abs(np.asarray(value) - flat(join(params, frozen))[path]).max()))
    assert moved > 4e-4  # five steps of about 1e-4: the comparison is not of two models that stood still
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(before[name])
