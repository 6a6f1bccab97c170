"""Objectives: from log-probabilities of answer tokens to a scalar and its metrics. No model in sight.

Every function returns sums, not means: `train_step` divides by the global count, so that a loss does not
depend on how many devices or micro-steps share the batch.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rlaifv_jax.data.batch import Batch


@dataclass(frozen=True)
class Objective:
    """What to minimise.

    name: 'dpo' or 'sft'. beta, average, sft_weight, reference_free: see `dpo`. loss, label_smoothing: see PAIR_LOSSES.
    reference_bfloat16: round the reference sums to bfloat16 as the original does by accident (its trainer casts every
    float of a batch).
    """

    name: str
    beta: float
    average: bool
    sft_weight: float
    reference_bfloat16: bool
    loss: str = "sigmoid"
    label_smoothing: float = 0.0
    reference_free: bool = False

    @property
    def needs_reference(self) -> bool:
        return self.name == "dpo" and not self.reference_free


class Sums(NamedTuple):
    """`loss` summed over the batch; `divisor` what it is divided by; `metrics` summed over pairs."""

    loss: jax.Array
    divisor: jax.Array
    metrics: dict[str, jax.Array]


def answer_sums(values: jax.Array, batch: Batch) -> jax.Array:
    """Weighted sum of per-target values for each answer: float32[B, R] → float32[B, S, 2]."""
    slots = 2 * batch.pairs.shape[-1]
    member = jax.nn.one_hot(batch.owners, slots, dtype=jnp.float32)  # [B, R, 2S]
    sums = jnp.einsum("br,brs->bs", values * batch.weights, member, precision="highest")
    return sums.reshape(*batch.pairs.shape, 2)


def sigmoid(margin: jax.Array, objective: Objective) -> jax.Array:
    """-(1 - ε) log σ(β z) - ε log σ(-β z), `margin` being β z: DPO (arXiv 2305.18290, equation 7) where ε,
    `label_smoothing`, is 0; else conservative DPO (Mitchell 2023, "A note on DPO with noisy preferences"), for labels
    of which a share ε is wrong."""
    smoothing = objective.label_smoothing
    loss = -jax.nn.log_sigmoid(margin)
    return loss if smoothing == 0 else (1 - smoothing) * loss - smoothing * jax.nn.log_sigmoid(-margin)


def ipo(margin: jax.Array, objective: Objective) -> jax.Array:
    """(z - 1 / (2β))², `margin` being β z: identity preference optimisation (arXiv 2310.12036, equation 17), which ends
    at a margin instead of widening it for ever."""
    return (margin / objective.beta - 1 / (2 * objective.beta)) ** 2


PAIR_LOSSES = {"sigmoid": sigmoid, "ipo": ipo}


def dpo(log_probs: jax.Array, batch: Batch, objective: Objective) -> Sums:
    """Direct preference optimisation, with an optional likelihood term.

        z = (log π(chosen) - log π(rejected)) - (log ref(chosen) - log ref(rejected))
        loss = PAIR_LOSSES[objective.loss](β z) - sft_weight · log π(chosen)

    With `reference_free` every answer is as likely as any other under the reference, as the authors of DPO offer it.
    log π is the weighted sum over an answer's tokens, or their weighted mean with `average`: with weights other than 1
    that is dense DPO (arXiv 2312.00849, whose equation 5 is the mean). Equals muffin/train/trainers.py (dpo_loss,
    compute_weighted_logp) of RLAIF-V, including its metrics: rewards are β (log π - log ref), a pair counts as accurate
    when the chosen reward is strictly larger.

    Args:
      log_probs: float32[B, R] of every target under the policy.
      batch: rows with `reference` filled in.

    Returns:
      sums over the pairs of the batch; `divisor` is their number.
    """
    policy = answer_sums(log_probs, batch)  # [B, S, 2]
    reference = answer_sums(batch.reference, batch)
    if objective.average:
        lengths = jnp.maximum(answer_sums(jnp.ones_like(log_probs), batch), 1e-6)
        policy, reference = policy / lengths, reference / lengths
    if objective.reference_free:
        reference = jnp.zeros_like(policy)
    if objective.reference_bfloat16:
        reference = reference.astype(jnp.bfloat16).astype(jnp.float32)
    rewards = objective.beta * (policy - reference)
    margin = rewards[..., 0] - rewards[..., 1]  # [B, S]
    loss = PAIR_LOSSES[objective.loss](margin, objective) - objective.sft_weight * policy[..., 0]

    def total(per_pair: jax.Array) -> jax.Array:
        return jnp.sum(per_pair * batch.pairs)

    metrics = {
        "rewards/chosen": total(rewards[..., 0]),
        "rewards/rejected": total(rewards[..., 1]),
        "rewards/accuracies": total((rewards[..., 0] > rewards[..., 1]).astype(jnp.float32)),
        "rewards/margins": total(margin),
        "logps/chosen": total(policy[..., 0]),
        "logps/rejected": total(policy[..., 1]),
        "logps/ref_chosen": total(reference[..., 0]),
        "logps/ref_rejected": total(reference[..., 1]),
    }
    return Sums(total(loss), count(batch, objective), jax.lax.stop_gradient(metrics))


def sft(log_probs: jax.Array, batch: Batch, objective: Objective) -> Sums:
    """Next-token cross-entropy on the labelled tokens of the first answer; `divisor` is their number.

    The metric `logps/chosen` is the log-probability of whole answers, as in `dpo`.
    """
    metrics = {"logps/chosen": jnp.sum(answer_sums(log_probs, batch)[..., 0] * batch.pairs)}
    loss = -jnp.sum(log_probs * _first_answer(batch))
    return Sums(loss, count(batch, objective), jax.lax.stop_gradient(metrics))


OBJECTIVES = {"dpo": dpo, "sft": sft}


def evaluate(log_probs: jax.Array, batch: Batch, objective: Objective) -> Sums:
    return OBJECTIVES[objective.name](log_probs, batch, objective)


def count(batch: Batch, objective: Objective) -> jax.Array:
    """What the loss of these rows is divided by, known before the forward pass."""
    if objective.name == "sft":
        return jnp.sum(_first_answer(batch))
    return jnp.sum(batch.pairs)


def _first_answer(batch: Batch) -> jax.Array:
    """Weights float32[B, R] of the targets that belong to a first (or only) answer."""
    return (batch.owners % 2 == 0) * batch.weights
