"""Options of the XLA compiler for the steps of a run, by kind of chip. Given at compile time, not by environment.

What they do was read from the compiled program of the 7B step (`python -m launch.compile`, docs/performance.md);
none of it has been timed on a chip.
"""

from typing import Any

# Weights are gathered by fusions that carry the transfer while they compute. Without these, v5p and v6e gather
# synchronously.
_GATHER_WHILE_COMPUTING = {
    "xla_enable_async_all_gather": True,
    "xla_tpu_enable_async_collective_fusion_fuse_all_gather": True,
    "xla_tpu_enable_async_collective_fusion_multiple_steps": True,
    "xla_tpu_overlap_compute_collective_tc": True,
}
# Windowed einsums (matrix products in a loop that passes shards around) for the gradients of weights only: those
# cross the mesh while they are computed, where a plain reduction would be one synchronous all-reduce a layer. As a way
# to gather weights they would write every partial product to HBM, three times the traffic of the whole step.
_REDUCE_IN_WINDOWS = {"xla_tpu_enable_windowed_einsum_for_all_gather": False}

_TPU = _GATHER_WHILE_COMPUTING | _REDUCE_IN_WINDOWS

OPTIONS: dict[str, dict[str, Any]] = {
    "TPU v4": _TPU,
    "TPU v5 lite": _TPU,
    "TPU v5": _TPU,
    "TPU v6 lite": _TPU,
}


def compiler_options(device_kind: str) -> dict[str, Any]:
    """Options for `lowered.compile(compiler_options=…)`, by jax's device_kind; none for other hardware."""
    return dict(OPTIONS.get(device_kind, {}))
