"""Log-probs of answer tokens and their gradient: this project's op against logits of all positions, and memory.

    python -m benchmarks.logprob --json logprob.json

Everybody starts from final hidden states and ends with gradients of hidden states and head. `full_logits` works on two
rows for each pair as RLAIF-V does, `gathered` projects the hidden states of answer positions at once, as the fused
heads of other libraries do (without their blocks).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import options, timing
from benchmarks.pairs import answer_lengths
from rlaifv_jax.models.layers import PLAIN
from rlaifv_jax.ops.logprob import target_log_probs


@dataclass(frozen=True)
class Problem:
    """hidden: float32[B, T, D]; head: [D, V]; sources, targets: int32[B, R]; weights: float32[B, R], 0 for padding.

    prefix: tokens before the answers. lengths: int[B, 2] tokens of the answers.
    """

    hidden: np.ndarray
    head: np.ndarray
    sources: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    prefix: int
    lengths: np.ndarray


def problem(prefix: int, lengths: np.ndarray, width: int, vocab: int) -> Problem:
    """Random numbers, one pair a row, laid out as rlaifv_jax.data.rows does."""
    rng = np.random.default_rng(0)
    totals = lengths.sum(1)
    shape = (len(lengths), int(totals.max()))
    sources, weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    for row, (chosen, total) in enumerate(zip(lengths[:, 0], totals, strict=True)):
        sources[row, :total] = prefix - 1 + np.arange(total)
        sources[row, chosen] = prefix - 1  # the end of the prefix predicts the first token of both answers
        weights[row, :total] = 1
    return Problem(
        hidden=rng.normal(size=(shape[0], prefix + shape[1], width)).astype(np.float32),
        head=(rng.normal(size=(width, vocab)) * width**-0.5).astype(np.float32),
        sources=sources,
        targets=rng.integers(0, vocab, shape).astype(np.int32),
        weights=weights,
        prefix=prefix,
        lengths=lengths,
    )


def ours(p: Problem, vocab_block: int, dtype: str) -> tuple[Callable[[], Any], int]:
    """(call, temporary bytes of the compiled program). A call returns the sum and gradients of hidden and head."""

    def total(hidden: jax.Array, head: jax.Array, sources: jax.Array, targets: jax.Array, weights: Any) -> jax.Array:
        return jnp.sum(target_log_probs(hidden, head, sources, targets, vocab_block=vocab_block) * weights)

    operands = (jnp.asarray(p.hidden, dtype), jnp.asarray(p.head, dtype), p.sources, p.targets, p.weights)
    arguments = jax.device_put(operands)
    compiled = jax.jit(jax.value_and_grad(total, argnums=(0, 1))).lower(*arguments).compile()
    memory: Any = compiled.memory_analysis()
    return lambda: jax.block_until_ready(compiled(*arguments)), memory.temp_size_in_bytes


class TwoRows:
    """PyTorch: hidden states [2B, P + longest, D], chosen and rejected of a pair one after the other."""

    def __init__(self, p: Problem, dtype: str, device: str):
        kind = getattr(torch, dtype)
        length = p.prefix + int(p.lengths.max())
        hidden = np.zeros((2 * len(p.hidden), length, p.hidden.shape[-1]), np.float32)
        labels = np.full((2 * len(p.hidden), length), -100, np.int64)
        for row, (chosen, rejected) in enumerate(p.lengths):
            for branch, (first, count) in enumerate(((0, chosen), (chosen, rejected))):
                own, place = 2 * row + branch, slice(p.prefix, p.prefix + count)
                hidden[own, : p.prefix] = p.hidden[row, : p.prefix]
                hidden[own, place] = p.hidden[row, p.prefix + first : p.prefix + first + count]
                labels[own, place] = p.targets[row, first : first + count]
        self.hidden = torch.from_numpy(hidden).to(device, kind).requires_grad_()
        self.head = torch.from_numpy(np.ascontiguousarray(p.head.T)).to(device, kind).requires_grad_()  # [V, D]
        self.labels = torch.from_numpy(labels).to(device)[:, 1:]
        self.mask = self.labels != -100

    def full_logits(self) -> Any:
        """log-softmax of everything, then one value a position, as RLAIF-V."""
        logits = (self.hidden @ self.head.T)[:, :-1].float()
        chosen = logits.log_softmax(-1).gather(2, self.labels.where(self.mask, 0)[..., None])[..., 0]
        return self._gradients((chosen * self.mask).sum())

    def gathered(self) -> Any:
        """Only positions with a target are projected."""
        logits = (self.hidden[:, :-1][self.mask] @ self.head.T).float()
        chosen = logits.gather(1, self.labels[self.mask][:, None])[:, 0]
        return self._gradients((chosen - logits.logsumexp(-1)).sum())

    def _gradients(self, total: torch.Tensor) -> Any:
        found = (total.detach(), *torch.autograd.grad(total, (self.hidden, self.head)))
        if total.is_cuda:
            torch.cuda.synchronize()
        return found


def main() -> None:
    parser = options.make_parser(__doc__, rounds=9)
    parser.add_argument("--prefix", type=options.positive, default=636, help="tokens of image and question")
    parser.add_argument("--width", type=options.positive, default=256, help="of the model")
    parser.add_argument("--vocab", type=options.positive, default=32000)
    parser.add_argument("--vocab-block", type=options.positive, default=PLAIN.vocab_block)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    options.add_cores(parser)
    chosen = parser.parse_args()

    cores = timing.limit_cores(chosen.cores)
    lengths = answer_lengths(chosen.pairs, np.random.default_rng(0))
    p = problem(chosen.prefix, lengths, chosen.width, chosen.vocab)
    call, temporary = ours(p, chosen.vocab_block, chosen.dtype)
    peers = TwoRows(p, chosen.dtype, "cuda" if jax.default_backend() == "gpu" else "cpu")
    times = timing.interleave(
        {timing.OURS: call, "full_logits": peers.full_logits, "gathered": peers.gathered}, chosen.rounds
    )
    rows, targets = peers.labels.shape[0], int(peers.mask.sum())
    setting = {
        **{key: getattr(chosen, key) for key in ("pairs", "prefix", "width", "vocab", "vocab_block", "dtype")},
        "cores": cores,
        "targets": targets,
        "ours_temporary_mb": round(temporary / 1e6),
        "float32_logits_of_all_positions_mb": round(4e-6 * rows * peers.labels.shape[1] * chosen.vocab),
        "float32_logits_of_targets_mb": round(4e-6 * targets * chosen.vocab),
    }
    timing.report([timing.case("log-probs of answers, value and gradient", times, setting)], chosen.json)


if __name__ == "__main__":
    main()
