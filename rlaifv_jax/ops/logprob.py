"""Log-probabilities of answer tokens, without logits for the rest of the row."""

import jax
import jax.numpy as jnp


def target_log_probs(hidden: jax.Array, head: jax.Array, sources: jax.Array, targets: jax.Array) -> jax.Array:
    """log p(target | everything before it), only where a target exists.

    The hidden states are gathered before the vocabulary projection, so the largest array is [B, R, V] and
    never [B, T, V]: of a LLaVA row of 800 tokens some 150 have a target.

    Args:
      hidden: [B, T, D] final hidden states.
      head: [D, V] output projection.
      sources: int32[B, R] row position whose hidden state predicts the target.
      targets: int32[B, R] token ids.

    Returns:
      float32[B, R]. Equals the gather of log_softmax(logits[:, :-1]) at labels[:, 1:] in
      muffin/eval/muffin_inference_logp.py (get_batch_logps) of RLAIF-V.
    """
    rows = jnp.take_along_axis(hidden, sources[..., None], axis=1)  # [B, R, D]
    logits = jnp.einsum("brd,dv->brv", rows, head, preferred_element_type=jnp.float32)
    chosen = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]  # [B, R]
    return chosen - jax.nn.logsumexp(logits, axis=-1)
