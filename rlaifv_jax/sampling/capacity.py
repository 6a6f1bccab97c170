"""How many prompts are worked on at once, and in what lengths.

Both depend on the model, the settings and the hardware only, never on what is asked or what memory happens to be free.
"""

import math
import os
from typing import Any

import jax
from jax.sharding import Mesh

from rlaifv_jax import parallel
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.blueprint import Params
from rlaifv_jax.models.decoder import DecoderConfig
from rlaifv_jax.sampling.cache import CacheShape, prompt_bytes

LENGTHS = (*range(64, 1024, 64), *range(1024, 4096, 256), *range(4096, 8193, 512))  # P, positions of a prompt's slot
MOST_BRANCHES = {"cpu": 32}  # at once: a CPU gains nothing by more
MOST_BRANCHES_ELSEWHERE = 256
CACHE_SHARE = {"cpu": 0.25}  # of the memory that the weights leave
CACHE_SHARE_ELSEWHERE = 0.8


def slot_length(positions: int) -> int:
    """The shortest slot for a prompt of so many positions. Raises `UserError` where there is none."""
    for length in LENGTHS:
        if length >= positions:
            return length
    raise UserError(f"a prompt of {positions} positions is longer than all slots; at most {LENGTHS[-1]} are possible")


def rung(count: int) -> int:
    """The next of 0, 1, 2 … 8, 10, 12, 14, 16, 20, …: four in an octave, so that there are few programs."""
    step = 1 << max((count - 1).bit_length() - 3, 0)
    return -(-count // step) * step


def prompts_at_once(config: DecoderConfig, shape: CacheShape, mesh: Mesh, params: Params) -> int:
    """G on real devices that hold `params`: see `prompts_in`.

    Raises:
      UserError: not even one prompt fits.
    """
    weights = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(params))
    free = _memory(mesh.devices.flat[0]) - weights
    found = prompts_in(config, shape, mesh, free)
    if not found:
        raise UserError(
            f"one prompt of {shape.prefix} positions with {shape.branches} branches of {shape.suffix} tokens needs "
            f"{prompt_bytes(config, shape) / 2**30:.2f} GiB of cache, too much beside the weights: ask for fewer new "
            "tokens or branches, or an int8 cache"
        )
    return found


def prompts_in(config: DecoderConfig, shape: CacheShape, mesh: Mesh, free: float) -> int:
    """G for `free` bytes of every device: as many as its share holds, up to a number beyond which it does not pay."""
    platform, unit = mesh.devices.flat[0].platform, parallel.rows_divisor(mesh)
    share = CACHE_SHARE.get(platform, CACHE_SHARE_ELSEWHERE)
    fits = int(share * free / bytes_on_device(config, shape, mesh))
    most = MOST_BRANCHES.get(platform, MOST_BRANCHES_ELSEWHERE) // shape.branches // unit
    return min(fits, max(most, 1)) * unit


def bytes_on_device(config: DecoderConfig, shape: CacheShape, mesh: Mesh) -> float:
    """Of the cache of one prompt: heads that the mesh does not divide are whole on every device."""
    axes = parallel.mesh_axes("heads", config.kv_heads, mesh)
    return prompt_bytes(config, shape) / math.prod(mesh.shape[name] for name in axes)


def _memory(device: Any) -> float:
    """Bytes that a program may have."""
    if device.platform == "cpu":
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return float(device.memory_stats()["bytes_limit"])
