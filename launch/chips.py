"""What a chip can do at most: operations, memory, and the bandwidth to both its memory and its neighbours.

Sources. Peaks: rlaifv_jax.flops. TPU bandwidths: "How to Scale Your Model" (jax-ml.github.io/scaling-book, part 2),
Cloud TPU documentation. HBM of TPUs: what libtpu 0.0.42 leaves to a program (its out-of-memory message names it), a
little less than the data sheet's 32, 16, 95 and 32. GPUs: NVIDIA's data sheets, NVLink to the other GPUs of a host.

Interconnect is the sum of a chip's links, one way. It is a ceiling: chips at the edge of a slice without wrap-around
have fewer links in use, and a transfer along one axis of the torus uses two links.
"""

from dataclasses import dataclass

from rlaifv_jax.flops import PEAK_FLOPS

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """device_kind: jax's name. peak_flops: dense bfloat16 operations a second. hbm_bytes: for a program.
    hbm_bandwidth: bytes a second. ici_bandwidth: bytes a second that all links together bring in."""

    name: str
    device_kind: str
    peak_flops: float
    hbm_bytes: float
    hbm_bandwidth: float
    ici_bandwidth: float


def _chip(name: str, device_kind: str, hbm_bytes: float, hbm_bandwidth: float, ici_bandwidth: float) -> Chip:
    return Chip(name, device_kind, PEAK_FLOPS[device_kind], hbm_bytes, hbm_bandwidth, ici_bandwidth)


CHIPS = (
    _chip("v4", "TPU v4", 30.75 * GIB, 1.2e12, 6 * 45e9),
    _chip("v5e", "TPU v5 lite", 15.75 * GIB, 0.81e12, 4 * 45e9),
    _chip("v5p", "TPU v5", 95.74 * GIB, 2.8e12, 6 * 90e9),
    _chip("v6e", "TPU v6 lite", 31.25 * GIB, 1.6e12, 4 * 90e9),
    _chip("h100", "NVIDIA H100 80GB HBM3", 84_978_434_048, 3.35e12, 450e9),  # memory as in launch/gpu_target.py
)


def find(name: str) -> Chip:
    """A chip by its own name or jax's `device_kind`.

    Raises:
      KeyError: the table does not have it; the message names those it has.
    """
    for chip in CHIPS:
        if name in (chip.name, chip.device_kind):
            return chip
    raise KeyError(f"no figures for {name!r}; launch/chips.py has {', '.join(chip.name for chip in CHIPS)}")
