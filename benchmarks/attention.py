"""Attention, forward and backward: this project's backends on shared-prefix rows against two rows for each pair.

    python -m benchmarks.attention --json attention.json

The peers compute the same outputs for the same pairs in the layout of RLAIF-V and TRL, where every answer has a row
of its own and causal attention needs no mask: PyTorch's scaled_dot_product_attention (its own choice of kernel), and
on NVIDIA GPUs cuDNN by way of jax.nn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import options, timing
from benchmarks.pairs import answer_lengths
from rlaifv_jax.ops.attention import DECODER_BACKENDS, Layout, attention, default_backend

Gradients = tuple[Any, Any, Any]
Place = tuple[int, int, slice, slice]  # shared row, row of its own, places there of one stretch of tokens in both


@dataclass(frozen=True)
class Rows:
    """Where the tokens of `lengths` int[N, 2] answers behind prefixes of `prefix` tokens stand in both layouts.

    layout: int32[N, T]. stretches: which tokens of a row of its own are which tokens of a shared row.
    """

    prefix: int
    layout: Layout
    stretches: tuple[Place, ...]
    shape: tuple[int, int]  # of shared rows
    own_shape: tuple[int, int]  # of rows of their own, chosen and rejected of a pair one after the other


def lay_out(prefix: int, lengths: np.ndarray) -> Rows:
    """One pair a row."""
    shape = (len(lengths), prefix + int(lengths.sum(1).max()))
    segments, branches, positions = (np.zeros(shape, np.int32) for _ in range(3))
    stretches: list[Place] = []
    for row, (chosen, rejected) in enumerate(lengths):
        segments[row, : prefix + chosen + rejected] = 1
        positions[row, :prefix] = np.arange(prefix)
        for branch, (start, length) in enumerate(((prefix, chosen), (prefix + chosen, rejected))):
            own = 2 * row + branch
            branches[row, start : start + length] = branch + 1
            positions[row, start : start + length] = prefix + np.arange(length)
            stretches.append((row, own, slice(prefix), slice(prefix)))
            stretches.append((row, own, slice(start, start + length), slice(prefix, prefix + length)))
    return Rows(
        prefix,
        Layout(*map(jnp.asarray, (segments, branches, positions))),
        tuple(stretches),
        shape,
        (2 * len(lengths), prefix + int(lengths.max())),
    )


def spread(rows: Rows, shared: np.ndarray) -> np.ndarray:
    """[N, T, …] of shared rows → [2N, T', …] of rows of their own, zeros behind them."""
    own = np.zeros((*rows.own_shape, *shared.shape[2:]), shared.dtype)
    for row, number, here, there in rows.stretches:
        own[number, there] = shared[row, here]
    return own


def ours(rows: Rows, backend: str, inputs: Sequence[np.ndarray], weight: np.ndarray, dtype: str) -> Callable[[], Any]:
    """Gradients of Σ out·weight with respect to query, key, value: a call returns three arrays [N, T, H, C]."""
    attend = partial(attention, layout=rows.layout, scale=inputs[0].shape[-1] ** -0.5, window=None, backend=backend)
    return _jitted(attend, inputs, weight, dtype)


def cudnn(inputs: Sequence[np.ndarray], weight: np.ndarray, dtype: str) -> Callable[[], Any]:
    """Two rows by jax.nn.dot_product_attention with NVIDIA's cuDNN."""
    attend = partial(jax.nn.dot_product_attention, is_causal=True, implementation="cudnn")
    return _jitted(attend, inputs, weight, dtype)


def _jitted(
    attend: Callable[..., jax.Array], inputs: Sequence[np.ndarray], weight: np.ndarray, dtype: str
) -> Callable[[], Any]:
    def scalar(query: jax.Array, key: jax.Array, value: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.sum(attend(query, key, value).astype(jnp.float32) * weight)

    gradients = jax.jit(jax.grad(scalar, argnums=(0, 1, 2)))
    operands = [jnp.asarray(x, dtype) for x in inputs]
    device_weight = jnp.asarray(weight)
    return lambda: jax.block_until_ready(gradients(*operands, device_weight))


def torch_sdpa(inputs: Sequence[np.ndarray], weight: np.ndarray, dtype: str, device: str) -> Callable[[], Any]:
    """Two rows by PyTorch, heads before tokens as its models hold them."""
    moved = [torch.from_numpy(np.ascontiguousarray(x.swapaxes(1, 2))).to(device, getattr(torch, dtype)) for x in inputs]
    query, key, value = (x.requires_grad_() for x in moved)
    factor = torch.from_numpy(np.ascontiguousarray(weight.swapaxes(1, 2))).to(device)

    def call() -> Any:
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        found = torch.autograd.grad((out.float() * factor).sum(), (query, key, value))
        if device == "cuda":
            torch.cuda.synchronize()
        return [x.swapaxes(1, 2) for x in found]

    return call


def calls(rows: Rows, heads: int, width: int, backends: Sequence[str], dtype: str) -> dict[str, Callable[[], Any]]:
    """Everybody's call: gradients of query, key and value of the same function of the same numbers.

    The first of `backends` is 'ours', others are named with it.
    """
    rng = np.random.default_rng(0)
    *inputs, weight = (rng.normal(size=(*rows.shape, heads, width)).astype(np.float32) for _ in range(4))
    weight *= np.asarray(rows.layout.segments)[..., None, None] > 0
    own = [spread(rows, x) for x in inputs]
    # A prefix's output stands in both rows of its pair: its weight counts in the first.
    own_weight = spread(rows, weight)
    own_weight[1::2, : rows.prefix] = 0
    names = (timing.OURS, *(f"ours_{backend}" for backend in backends[1:]))
    found: dict[str, Callable[[], Any]] = {
        name: ours(rows, backend, inputs, weight, dtype) for name, backend in zip(names, backends, strict=True)
    }
    on_gpu = jax.default_backend() == "gpu"
    if torch.cuda.is_available() or not on_gpu:
        found["torch_sdpa"] = torch_sdpa(own, own_weight, dtype, "cuda" if on_gpu else "cpu")
    if on_gpu:
        found["cudnn"] = cudnn(own, own_weight, dtype)
    return found


def main() -> None:
    parser = options.make_parser(__doc__, rounds=9)
    parser.add_argument("--prefix", type=options.positive, default=636, help="tokens of image and question")
    parser.add_argument("--heads", type=options.positive, default=4)
    parser.add_argument("--width", type=options.positive, default=64, help="of a head")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument(
        "--backends", nargs="+", choices=DECODER_BACKENDS, default=[default_backend(jax.default_backend())]
    )
    options.add_cores(parser)
    chosen = parser.parse_args()

    cores = timing.limit_cores(chosen.cores)
    lengths = answer_lengths(chosen.pairs, np.random.default_rng(0))
    rows = lay_out(chosen.prefix, lengths)
    found = calls(rows, chosen.heads, chosen.width, chosen.backends, chosen.dtype)
    setting = {
        "pairs": chosen.pairs,
        "prefix": chosen.prefix,
        "heads": chosen.heads,
        "head_width": chosen.width,
        "dtype": chosen.dtype,
        "backends": ", ".join(chosen.backends),
        "cores": cores,
    }
    times = timing.interleave(found, chosen.rounds)
    timing.report([timing.case("attention, forward and backward", times, setting)], chosen.json)


if __name__ == "__main__":
    main()
