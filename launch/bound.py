"""An upper bound of a step's MFU from what it must compute and move. No prediction: real steps are slower.

    seconds ≥ max(operations / peak, HBM bytes / HBM bandwidth, overlapped transfers / interconnect)
              + transfers that nothing overlaps / interconnect
    MFU     ≤ model operations / peak / seconds

Every unit is taken to run at its peak, all of them at the same time, except during a synchronous transfer, when
nothing else runs.
"""

from dataclasses import dataclass

from launch.chips import Chip


@dataclass(frozen=True)
class StepBound:
    """Least seconds of a step by cause; `ideal` are those of the model's own operations at peak."""

    ideal: float
    compute: float
    hbm: float
    async_ici: float
    sync_ici: float

    @property
    def mfu_bound(self) -> float:
        """MFU cannot be higher than this."""
        return self.ideal / self.seconds

    @property
    def seconds(self) -> float:
        """The step takes at least this long."""
        return max(self.compute, self.hbm, self.async_ici) + self.sync_ici


def step_bound(
    chip: Chip, executed_flops: float, model_flops: float, hbm_bytes: float, async_bytes: float, sync_bytes: float
) -> StepBound:
    """The bound for one chip and one step.

    Args:
      executed_flops: operations that the chip executes, recomputation included.
      model_flops: operations that the model needs (see rlaifv_jax.flops), this chip's share.
      hbm_bytes: see launch.traffic.
      async_bytes, sync_bytes: received from other chips, with and without overlap; see launch.collectives.

    Raises:
      ValueError: a negative count, or no executed operations at all.
    """
    if min(executed_flops, model_flops, hbm_bytes, async_bytes, sync_bytes) < 0 or executed_flops == 0:
        raise ValueError("counts of operations and bytes must not be negative, and a step must execute something")
    return StepBound(
        ideal=model_flops / chip.peak_flops,
        compute=executed_flops / chip.peak_flops,
        hbm=hbm_bytes / chip.hbm_bandwidth,
        async_ici=async_bytes / chip.ici_bandwidth,
        sync_ici=sync_bytes / chip.ici_bandwidth,
    )
