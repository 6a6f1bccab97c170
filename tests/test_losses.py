from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from rlaifv_jax import losses
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.data.encode import Answer, Encoded
from rlaifv_jax.data.rows import Item
from rlaifv_jax.losses import Objective
from tests import tiny


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    items = [[tiny.item(rng)] for _ in range(3)] + [[]]
    batch = tiny.batch(items)
    batch = batch._replace(**{name: getattr(batch, name)[0] for name in batch._fields})
    log_probs = jnp.array(rng.normal(-2, 1, batch.targets.shape), jnp.float32)
    return items[:3], batch, log_probs


def by_hand(items, log_probs, *, average=False):
    """(policy, reference) of every pair, float64[3, 2]."""
    policy, reference = np.zeros((3, 2)), np.zeros((3, 2))
    for row, (item,) in enumerate(items):
        start = 0
        for number, answer in enumerate(item.encoded.answers):
            stop = start + len(answer.tokens)
            weights = np.ones(len(answer.tokens)) if item.weights is None else item.weights[number].astype(np.float64)
            weights /= weights.sum() if average else 1
            policy[row, number] = weights @ np.asarray(log_probs, np.float64)[row, start:stop]
            reference[row, number] = weights @ item.reference[number].astype(np.float64)
            start = stop
    return policy, reference


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("dense", [False, True])
def test_dpo_equals_the_formula(rows, average, dense):
    items, batch, log_probs = rows
    if dense:  # every third token weighs 5
        items = [
            [replace(item, weights=[5.0 ** (np.arange(len(r)) % 3 == 0) for r in item.reference])] for [item] in items
        ]
        batch = Batch(*(leaf[0] for leaf in tiny.batch([*items, []])))
    policy, reference = by_hand(items, log_probs, average=average)
    z = (policy[:, 0] - policy[:, 1]) - (reference[:, 0] - reference[:, 1])
    expected = np.log1p(np.exp(-0.3 * z)) - 0.7 * policy[:, 0]
    sums = losses.dpo(log_probs, batch, Objective("dpo", 0.3, average, 0.7, False))
    np.testing.assert_allclose(sums.loss, expected.sum(), rtol=1e-5)
    assert sums.divisor == 3  # the empty row is no pair
    rewards = 0.3 * (policy - reference)
    assert sums.metrics["rewards/accuracies"] == (rewards[:, 0] > rewards[:, 1]).sum()
    for name, value in {
        "rewards/chosen": rewards[:, 0],
        "rewards/margins": rewards[:, 0] - rewards[:, 1],
        "logps/rejected": policy[:, 1],
        "logps/ref_chosen": reference[:, 0],
    }.items():
        np.testing.assert_allclose(sums.metrics[name], value.sum(), rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "formula"),
    [
        ({"label_smoothing": 0.2}, lambda z: 0.8 * np.log1p(np.exp(-0.3 * z)) + 0.2 * np.log1p(np.exp(0.3 * z))),
        ({"loss": "ipo"}, lambda z: (z - 1 / 0.6) ** 2),
    ],
)
@pytest.mark.parametrize("free", [False, True])
def test_other_losses_equal_their_formulas(rows, changes, formula, free):
    items, batch, log_probs = rows
    policy, reference = by_hand(items, log_probs)
    z = policy[:, 0] - policy[:, 1] - (0 if free else reference[:, 0] - reference[:, 1])
    objective = Objective("dpo", 0.3, False, 0.0, False, reference_free=free, **changes)
    sums = losses.dpo(log_probs, batch, objective)
    np.testing.assert_allclose(sums.loss, formula(z).sum(), rtol=1e-5)
    np.testing.assert_allclose(sums.metrics["rewards/margins"], 0.3 * z.sum(), rtol=1e-5)
    assert objective.needs_reference != free


@pytest.mark.parametrize(("average", "expected"), [(False, -12), (True, -3)])
def test_a_worked_value_of_weighted_log_probs(average, expected):
    """Log-probs -1, -2, -3, -4, of which the first is of the prompt; weights 1, 1, 2, 1."""
    answers = tuple(Answer(np.ones(3, np.int32), np.ones(3, bool)) for _ in range(2))
    encoded = Encoded(np.ones(2, np.int32), answers, (False, False), None)
    reference = [np.float32([-2, -3, -4]), np.zeros(3, np.float32)]
    item = Item(encoded, None, reference, [np.float32([1, 2, 1]), np.ones(3, np.float32)])
    batch = Batch(*(leaf[0] for leaf in tiny.batch([[item]])))
    sums = losses.dpo(jnp.zeros_like(batch.reference), batch, Objective("dpo", 0.1, average, 0.0, False))
    np.testing.assert_allclose(sums.metrics["logps/ref_chosen"], expected, rtol=1e-6)
    np.testing.assert_allclose(sums.loss, np.log1p(np.exp(0.1 * expected)), rtol=1e-6)


def test_policy_equal_to_reference_gives_ln_2_and_no_accuracy(rows):
    _, batch, _ = rows
    sums = losses.dpo(batch.reference, batch, tiny.DPO)
    np.testing.assert_allclose(sums.loss / sums.divisor, np.log(2), rtol=1e-6)
    assert sums.metrics["rewards/accuracies"] == 0  # a tie is not a win


def test_reference_can_be_rounded_as_the_original_does(rows):
    items, batch, log_probs = rows
    _, reference = by_hand(items, log_probs)
    rounded = losses.dpo(log_probs, batch, Objective("dpo", 0.1, False, 0.0, True)).metrics["logps/ref_chosen"]
    expected = jnp.array(reference[:, 0], jnp.bfloat16).astype(jnp.float32).sum()
    np.testing.assert_allclose(rounded, expected, rtol=1e-6)
    assert abs(float(expected) - reference[:, 0].sum()) > 1e-3


def test_sft_is_token_cross_entropy_of_the_first_answer(rows):
    items, batch, log_probs = rows
    sums = losses.sft(log_probs, batch, tiny.SFT)
    lengths = [len(item.encoded.answers[0].tokens) for (item,) in items]
    expected = -sum(float(log_probs[row, :n].sum()) for row, n in enumerate(lengths))
    np.testing.assert_allclose(sums.loss, expected, rtol=1e-5)
    assert sums.divisor == sum(lengths) == losses.count(batch, tiny.SFT)
