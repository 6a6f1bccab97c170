"""What a compiled step costs on one chip: memory, operations, transfers, and a bound of its speed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from launch import bound, collectives, hlo, loops, traffic
from launch.chips import Chip

GIB = 2**30
HELD = ("weights", "optimizer", "cache", "activation")  # of memory, for people


@dataclass(frozen=True)
class Memory:
    """Bytes of one chip. `parts`: of arguments by name. `peak` is the compiler's; `activations` is what it holds beyond
    the arguments."""

    parts: dict[str, float]
    activations: float
    peak: float
    hbm: float

    @property
    def free(self) -> float:
        return self.hbm - self.peak


def shard_bytes(tree: Any) -> float:
    """Bytes that one device holds of abstract arrays with shardings."""
    leaves = jax.tree.leaves(tree)
    return float(sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves))


def memory(compiled: Any, chip: Chip, parts: Mapping[str, Any]) -> Memory:
    """What the program takes. parts: trees of abstract arrays by name."""
    analysis = compiled.memory_analysis()
    peak = float(analysis.peak_memory_in_bytes)
    return Memory(
        parts={name: shard_bytes(tree) for name, tree in parts.items()},
        activations=peak - float(analysis.argument_size_in_bytes),
        peak=peak,
        hbm=chip.hbm_bytes,
    )


def analyse(compiled: Any, chip: Chip, memory: Memory, model_flops: float, executed_flops: float) -> dict[str, Any]:
    """Everything about one step on one chip, with plain numbers: the object that --json prints.

    model_flops, executed_flops: this chip's share.
    """
    module = hlo.parse(compiled.as_text())
    sites = collectives.sites(module)
    kinds = collectives.by_kind(sites)
    between = kinds.pop(collectives.BETWEEN_SLICES, None)  # over another network
    overlapped = sum(kind.async_bytes for kind in kinds.values())
    received = sum(kind.bytes for kind in kinds.values())
    moved = traffic.hbm_bytes(module)
    limits = bound.step_bound(chip, executed_flops, model_flops, moved, overlapped, received - overlapped)
    return {
        "fits": memory.peak <= chip.hbm_bytes,
        "peak_bytes": memory.peak,
        "hbm_bytes": chip.hbm_bytes,
        **{f"{name}_bytes": size for name, size in memory.parts.items()},
        "activation_bytes": memory.activations,
        "free_bytes": memory.free,
        "model_flops": model_flops,
        "executed_flops": executed_flops,
        "hbm_traffic_bytes": moved,
        "collectives": {
            name: {"count": kind.executions, "sites": kind.sites, "bytes": kind.bytes, "async_bytes": kind.async_bytes}
            for name, kind in kinds.items()
        },
        "largest_arrays": _largest(module, count=30),
        "received_bytes": received,
        "between_slices_bytes": between.bytes if between else 0.0,
        "loops_counted_once": sum(trips is None for trips in loops.trip_counts(module).values()),
        "async_gather_share": collectives.async_gather_share(sites),
        "seconds_at_least": limits.seconds,
        "seconds_by_cause": {cause: getattr(limits, cause) for cause in ("compute", "hbm", "async_ici", "sync_ici")},
        "mfu_bound": limits.mfu_bound,
    }


def _largest(module: hlo.Module, count: int) -> list[dict[str, Any]]:
    """The largest distinct arrays in HBM that the program makes or takes."""
    arrays = {
        array
        for name in loops.executions(module)
        for instruction in module.computations[name].instructions.values()
        for array in instruction.arrays
        if array.space == hlo.HBM
    }
    largest = sorted(arrays, key=lambda array: -array.bytes)[:count]
    return [{"dtype": array.dtype, "shape": list(array.shape), "bytes": array.bytes} for array in largest]


def lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    title = f"{found['topology']} · {found['step']} step · {_work(found)} · mesh {found['mesh']}"
    if found["peak_bytes"] is None:
        return [title, f"  does not fit: {found['reason']}", *(f"    {hint}" for hint in found["hints"])]
    held = " · ".join(f"{name} {found[f'{name}_bytes'] / GIB:.2f}" for name in HELD if f"{name}_bytes" in found)
    seconds = " · ".join(f"{cause} {value:.3f}" for cause, value in found["seconds_by_cause"].items())
    share = found["async_gather_share"]
    return [
        title,
        f"  memory, GiB a chip: {held} · peak {found['peak_bytes'] / GIB:.2f} of {found['hbm_bytes'] / GIB:.2f}, "
        f"{found['free_bytes'] / GIB:.2f} free" + ("" if found["fits"] else "  DOES NOT FIT"),
        f"  operations, TFLOP a chip: model {found['model_flops'] / 1e12:.1f} · executed "
        f"{found['executed_flops'] / 1e12:.1f}",
        f"  received, GB a chip: {found['received_bytes'] / 1e9:.2f}"
        + (f", gathers and permutes overlapped {share:.1%}" if share is not None else ""),
        *(
            f"    {name}: {kind['sites']} sites, {kind['count']:.0f} times, {kind['bytes'] / 1e9:.2f} GB "
            f"({kind['async_bytes'] / 1e9:.2f} overlapped)"
            for name, kind in found["collectives"].items()
        ),
        *_remarks(found),
        *_rates(found),
        f"  at least, seconds: {seconds} → MFU bound {found['mfu_bound']:.1%} (a bound, no prediction)",
        f"  compiled in {found['compile_seconds']:.0f} s",
    ]


def _work(found: dict[str, Any]) -> str:
    if "prompts" in found:
        return (
            f"{found['prompts']} prompts of {found['prefix']} positions, {found['branches']} branches of "
            f"{found['columns']} tokens each, {found['cache']} cache"
        )
    what = f"{found['claims']} claims" if "claims" in found else f"{found['pairs']} pairs"
    return f"{found['rows']} rows of {found['row_length']} positions, {what}"


def _rates(found: dict[str, Any]) -> list[str]:
    """Of labelling and generation, see launch/labelling.py and launch/generation.py."""
    if "claims_per_second_bound" in found:
        return [f"  at most {found['claims_per_second_bound']:,.0f} claims/s"]
    if "tokens_per_second_bound" not in found:
        return []
    step, prompt = (found[f"{name}_seconds_at_least"] * 1e3 for name in ("step", "prompt"))
    return [
        f"  a step reads {found['step_bytes'] / 1e9:.2f} GB a chip: at least {step:.2f} ms, "
        f"{found['decode_tokens_per_second_bound']:,.0f} tokens/s; a prompt takes at least {prompt:.2f} ms",
        f"  prompts included at most {found['tokens_per_second_bound']:,.0f} tokens/s (a bound, no prediction)",
    ]


def _remarks(found: dict[str, Any]) -> list[str]:
    remarks = []
    if found["between_slices_bytes"]:
        remarks.append(
            f"    between slices: {found['between_slices_bytes'] / 1e9:.2f} GB over the data-centre network, "
            "not in the bound"
        )
    if found["loops_counted_once"]:
        remarks.append(f"    {found['loops_counted_once']} loops of unknown length are counted once")
    return remarks
