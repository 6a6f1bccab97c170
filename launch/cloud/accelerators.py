"""TPU slices by the names people use, and what gcloud, GKE and the runtime call them.

Sources: cloud.google.com/tpu/docs/ (v4, v5e, v5p, v6e, runtimes) and
cloud.google.com/kubernetes-engine/docs/concepts/plan-tpus.
"""

import re
from dataclasses import dataclass

from rlaifv_jax.errors import UserError

FLAT = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
CUBES = {
    4: "2x2x1",
    8: "2x2x2",
    16: "2x2x4",
    32: "2x4x4",
    64: "4x4x4",
    128: "4x4x8",
    256: "4x8x8",
    512: "8x8x8",
    1024: "8x8x16",
    2048: "8x16x16",
}
CHIPS_OF_A_HOST = 4  # in slices of several hosts


@dataclass(frozen=True)
class Generation:
    """prefix: of --accelerator-type. counted: what the number behind it counts in a chip: TensorCores, or the chip.
    runtime: TPU software version for JAX. label: of GKE's nodes. alone: chips of the largest slice with one host."""

    prefix: str
    counted: int
    runtime: str
    label: str
    topologies: dict[int, str]
    alone: int


GENERATIONS = {
    "v4": Generation("v4", 2, "tpu-ubuntu2204-base", "tpu-v4-podslice", CUBES, 4),
    "v5e": Generation("v5litepod", 1, "v2-alpha-tpuv5-lite", "tpu-v5-lite-podslice", FLAT, 8),
    "v5p": Generation("v5p", 2, "v2-alpha-tpuv5", "tpu-v5p-slice", CUBES, 4),
    "v6e": Generation("v6e", 1, "v2-alpha-tpuv6e", "tpu-v6e-slice", FLAT, 8),
}
EXAMPLES = "v5e-16 (or v5litepod-16), v6e-8, v5p-32, v4-32"


@dataclass(frozen=True)
class Accelerator:
    """type: for --accelerator-type. topology and label: for GKE's selectors. hosts: machines, a process on each."""

    type: str
    runtime: str
    label: str
    topology: str
    chips: int
    hosts: int

    @property
    def chips_of_a_host(self) -> int:
        return self.chips // self.hosts


def find(name: str) -> Accelerator:
    """A slice by Google's name; v5e-N stands for v5litepod-N.

    Raises:
      UserError: there is no such slice; the message says which there are.
    """
    found = re.fullmatch(r"(\w+)-(\d+)", name)
    kinds = [kind for kind, what in GENERATIONS.items() if found and found[1] in (kind, what.prefix)]
    if not found or not kinds:
        raise UserError(f"accelerator: {name!r} is no slice; examples are {EXAMPLES}")
    what = GENERATIONS[kinds[0]]
    chips, rest = divmod(int(found[2]), what.counted)
    if rest or chips not in what.topologies:
        sizes = ", ".join(f"{kinds[0]}-{size * what.counted}" for size in what.topologies)
        raise UserError(f"accelerator: there is no {name}; there are {sizes}")
    hosts = 1 if chips <= what.alone else chips // CHIPS_OF_A_HOST
    return Accelerator(f"{what.prefix}-{found[2]}", what.runtime, what.label, what.topologies[chips], chips, hosts)
