"""How many prompts are worked on at once, and in what lengths."""

import os
from typing import Any

from jax.sharding import Mesh

from rlaifv_jax import parallel
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.decoder import DecoderConfig
from rlaifv_jax.sampling.cache import CacheShape, prompt_bytes

LENGTHS = (*range(64, 1024, 64), *range(1024, 4096, 256), *range(4096, 8193, 512))  # P, positions of a prompt's slot
MOST_BRANCHES = {"cpu": 32}  # at once: a CPU gains nothing by more
MOST_BRANCHES_ELSEWHERE = 256
CACHE_SHARE = {"cpu": 0.25}  # of the memory that is free once the weights are there
CACHE_SHARE_ELSEWHERE = 0.8


def slot_length(positions: int) -> int:
    """The shortest slot for a prompt of so many positions: it depends on nothing else, so neither does an answer."""
    return next(length for length in LENGTHS if length >= positions)


def prompts_at_once(config: DecoderConfig, shape: CacheShape, mesh: Mesh) -> int:
    """G: as many as the devices have memory for, up to a number beyond which it does not pay.

    Args:
      shape: of the cache; its `prompts` does not matter.

    Raises:
      UserError: not even one fits.
    """
    platform = mesh.devices.flat[0].platform
    free = CACHE_SHARE.get(platform, CACHE_SHARE_ELSEWHERE) * _free_bytes(mesh)
    needed = prompt_bytes(config, shape)
    unit = parallel.rows_divisor(mesh)
    fits = int(free / needed) // unit * unit
    if fits < 1:
        raise UserError(
            f"one prompt of {shape.prefix} positions with {shape.branches} branches of {shape.suffix} tokens needs "
            f"{needed * unit / 2**30:.2f} GiB of cache, and {free / 2**30:.2f} are free: ask for fewer new tokens or "
            "branches, or an int8 cache"
        )
    most = MOST_BRANCHES.get(platform, MOST_BRANCHES_ELSEWHERE) // shape.branches // unit * unit
    return min(fits, max(most, unit))


def _free_bytes(mesh: Mesh) -> float:
    """Over all devices of the mesh that hold different parts of a cache."""
    devices: list[Any] = mesh.devices.flatten().tolist()
    if devices[0].platform == "cpu":
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    statistics = [device.memory_stats() for device in devices]
    return min(found["bytes_limit"] - found["bytes_in_use"] for found in statistics) * len(devices)
