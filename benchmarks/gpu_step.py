"""One DPO step of a LLaVA of any size on one accelerator, bfloat16, random weights: seconds, MFU, memory.

    python -m benchmarks.gpu_step --contender ours --json ours.json
    python -m benchmarks.gpu_step --contender original --json original.json
    python -m benchmarks.gpu_step --contender ours --lora 64 --base int8

One contender a process, since each wants the whole memory. `ours` keeps float32 master weights, both Adam moments and
computes in bfloat16, as the trainer does. The PyTorch contenders (benchmarks/two_rows.py) hold weights, gradients and
moments in bfloat16, which is less than a good training keeps, and recompute layers in the backward pass
(--no-remat: not). With --lora both train adapters of that rank and the projector beside a bfloat16 decoder, PyTorch
through PEFT; ours also beside an int8 one.
MFU counts model operations (rlaifv_jax/flops.py) of the shared rows for everybody: what the job needs, not what a
contender spends on it. Sizes can be made small, to try the program on a CPU.
"""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks import options, timing
from benchmarks.model import LLAVA_7B, Sizes, our_blueprint, torch_model
from benchmarks.ours import FROZEN, make_optimizer, objective
from benchmarks.pairs import Lengths, Pair, items, make_pairs, shared_rows
from benchmarks.recipe import Recipe
from benchmarks.two_rows import TWO_ROWS
from rlaifv_jax.flops import mfu, row_flops
from rlaifv_jax.models import lora
from rlaifv_jax.models.blueprint import cast, join, random_params, split_frozen
from rlaifv_jax.models.families import Trained
from rlaifv_jax.models.layers import REMAT_POLICIES, Compute
from rlaifv_jax.models.llava import Llava
from rlaifv_jax.models.lora import Lora
from rlaifv_jax.ops.attention import BACKENDS, DECODER_BACKENDS, default_backend
from rlaifv_jax.step import Step, TrainState, init_state, train_step


def ours(
    pairs: Sequence[Pair], sizes: Sizes, recipe: Recipe, compute: Compute, per_row: int, adapters: Lora | None
) -> tuple[Callable[[], float], dict[str, Any]]:
    """(one update, what the compiler says of its memory in bytes)."""
    model, transform = our_blueprint(sizes), make_optimizer(recipe)
    config = model.module(model.shapes).config
    plan = lora.overlay(model, adapters) if adapters else model
    left = FROZEN + (lora.untrained(plan) if adapters else ())
    step = Step(plan, objective(recipe), compute, "bfloat16", adapters)

    def start() -> TrainState:
        params, frozen = split_frozen(random_params(Llava, config, 0), left)
        frozen = cast(frozen, jnp.bfloat16)
        if adapters:
            frozen = lora.quantized(plan, frozen, jnp.bfloat16)
            params = join(params, lora.fresh(plan, 0))
        return init_state(params, frozen, transform)

    rows = jax.device_put(shared_rows(items(pairs, sizes), sizes, per_row))
    held = [jax.jit(start)()]
    update = jax.jit(partial(train_step, step=step, optimizer=transform), donate_argnums=0)
    compiled = update.lower(held[0], rows).compile()
    memory: Any = compiled.memory_analysis()

    def call() -> float:
        held[0], metrics = jax.block_until_ready(compiled(held[0], rows))
        return float(metrics["loss"])

    return call, {
        "row_length": rows.tokens.shape[-1],
        "argument_bytes": memory.argument_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes,
    }


def two_rows(
    name: str, pairs: Sequence[Pair], sizes: Sizes, recipe: Recipe, *, remat: bool, adapters: Lora | None
) -> Callable[[], float]:
    """One update of a PyTorch contender, whose policy is its own reference."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = torch_model(sizes, 0, device, torch.bfloat16)
    if adapters:
        add_adapters(model, adapters)
    if remat:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return TWO_ROWS[name](model, model, pairs, sizes, recipe).step


def add_adapters(model: Any, adapters: Lora) -> None:
    """PEFT's, in place, in bfloat16; the projector is trained whole."""
    from peft import LoraConfig, inject_adapter_in_model

    targets = rf".*language_model.*\.({'|'.join(adapters.targets)})"
    config = LoraConfig(
        r=adapters.rank, lora_alpha=int(adapters.alpha), lora_dropout=adapters.dropout, target_modules=targets
    )
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "lora_" in name or "multi_modal_projector" in name
        if "lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16)


def model_flops(pairs: Sequence[Pair], sizes: Sizes, adapters: Lora | None) -> float:
    """Operations that a step on these pairs needs, in shared rows without padding."""
    answers = np.array([[len(tokens) for tokens in pair.answers] for pair in pairs])
    prefix = np.array([len(pair.prompt) + sizes.image_tokens - 1 for pair in pairs])
    config = our_blueprint(sizes).module(our_blueprint(sizes).shapes).config
    images = np.ones(len(pairs))
    return float(row_flops(config, prefix, answers, answers.sum(1), images, Trained(lora=adapters)).sum())


def main() -> None:
    parser = options.make_parser(__doc__, rounds=7)
    parser.add_argument("--contender", choices=("ours", *TWO_ROWS), default="ours")
    parser.add_argument("--per-row", type=options.positive, default=1, help="pairs that share one of our rows")
    parser.add_argument("--remat", choices=REMAT_POLICIES, default="attention", help="what ours keeps of each layer")
    parser.add_argument("--no-remat", action="store_true", help="PyTorch keeps everything")
    parser.add_argument("--backend", choices=DECODER_BACKENDS, default=default_backend(jax.default_backend()))
    parser.add_argument("--tower-backend", choices=BACKENDS, default="")
    parser.add_argument("--lora", type=int, default=0, metavar="RANK", help="train adapters (default: all)")
    parser.add_argument("--base", choices=lora.BASES, default="", help="of ours, beside adapters (default: bfloat16)")
    parser.add_argument("--dropout", type=float, default=0.05, help="of adapters")
    parser.add_argument("--vocab-block", type=options.positive, default=4096)
    options.add_photos(parser)
    for size in fields(Sizes):
        name = size.name.replace("_", "-")
        parser.add_argument(f"--{name}", type=int, default=getattr(LLAVA_7B, size.name), help="of the model")
    chosen = parser.parse_args()

    sizes = replace(LLAVA_7B, **{size.name: getattr(chosen, size.name) for size in fields(Sizes)})
    pairs = make_pairs(chosen.pairs, sizes, Lengths(), chosen.photos)
    adapters = Lora(chosen.lora, 16.0, chosen.dropout, tuple(lora.PATHS), chosen.base) if chosen.lora else None
    if chosen.contender == "ours":
        compute = Compute(chosen.backend, chosen.tower_backend or chosen.backend, chosen.remat, chosen.vocab_block)
        call, memory = ours(pairs, sizes, Recipe(), compute, chosen.per_row, adapters)
    else:
        call = two_rows(chosen.contender, pairs, sizes, Recipe(), remat=not chosen.no_remat, adapters=adapters)
        memory = {}
    times = timing.interleave({chosen.contender: call}, chosen.rounds)[chosen.contender]
    seconds, needed = statistics.median(times.wall), model_flops(pairs, sizes, adapters)
    result = {
        "name": "DPO step, one accelerator, bfloat16",
        "contender": chosen.contender,
        "step_s": seconds,
        "first_s": times.first,
        "wall_s": times.wall,
        "pairs_a_second": chosen.pairs / seconds,
        "model_tflops": needed / 1e12,
        "mfu": mfu(needed, seconds),
        "memory": memory | peak_memory(),
        "sizes": asdict(sizes),
        "options": {key: str(value) for key, value in vars(chosen).items()},
        "versions": timing.versions(),
        "hardware": timing.hardware(),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")


def peak_memory() -> dict[str, int]:
    """What the device's allocators report, in bytes; nothing on a CPU."""
    found = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    peaks = {} if found is None else {"jax_peak_bytes": found}
    return peaks | ({"torch_peak_bytes": torch.cuda.max_memory_allocated()} if torch.cuda.is_available() else {})


if __name__ == "__main__":
    main()
