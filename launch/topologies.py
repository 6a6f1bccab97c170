"""Slices that exist only as a name: their devices, as the compiler sees them."""

import os
import re
from typing import Any

import numpy as np

from rlaifv_jax.errors import UserError

# Names as in `v5e:4x4`; v4 and v5p have three dimensions.
TPUS = {"v4": 3, "v5e": 2, "v5p": 3, "v6e": 2}
GPUS = ("h100",)
EXAMPLES = "v5e:4x4, v6e:2x4, v5p:2x2x4, v4:2x2x2, h100:1x1x8"


def check(name: str) -> str:
    """The generation of a slice, e.g. 'v5e'. Raises `UserError` for a name that cannot be one."""
    found = re.fullmatch(r"(\w+):(\d+(?:x\d+)*)", name)
    kind, sizes = (found[1], found[2].split("x")) if found else ("", [])
    if (kind in TPUS and len(sizes) == TPUS[kind]) or (kind in GPUS and len(sizes) == 3):
        return kind
    raise UserError(f"--topology: {name!r} is no slice; examples are {EXAMPLES}")


def devices(name: str, slices: int) -> Any:
    """The chips of `slices` slices of that name, an object array; nothing can be run on them.

    Raises:
      UserError: the compiler for that hardware is not installed, or knows no such slice.
    """
    kind = check(name)
    if kind in GPUS and slices > 1:
        raise UserError(f"--slices: only TPUs come in slices; name all GPUs of {kind} in --topology")
    from jax.experimental import topologies

    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # this host is no TPU VM: do not look for its neighbours
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # the chips are not used, so nobody is in the way
    options: dict[str, Any] = {}
    sizes = [int(size) for size in name.split(":")[1].split("x")]
    if kind in GPUS:
        from launch.gpu_target import target_config

        os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # there is no driver to check
        platform, options = "cuda", {"target_config": target_config(kind), "topology": name.split(":")[1]}
        name = kind
    else:
        platform = "tpu"
        if kind == "v4":
            options["chip_config_name"] = "megacore"  # one device is a chip, not one of its two cores
        if kind in ("v5e", "v6e") and sizes == [1, 1]:
            options["chips_per_host_bounds"] = (1, 1, 1)
        if slices > 1:
            options["num_slices"] = slices
    try:
        return np.array(topologies.get_topology_desc(platform=platform, topology_name=name, **options).devices)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        package = "jax[cuda12]" if kind in GPUS else "libtpu (pip install 'jax[tpu]')"
        raise UserError(f"--topology: {name} cannot be had from {package}: {reason}") from None
