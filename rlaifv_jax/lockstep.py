"""What every process tells all others at each step: one tiny collective that no host waits for."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rlaifv_jax import parallel


class Lockstep:
    """Numbers of every process, known to all. Processes must call `tell` equally often, in the same order as the other
    work they give to the devices of `mesh`."""

    def __init__(self, mesh: Mesh):
        devices = mesh.devices.flatten()
        _, self.first = np.unique([device.process_index for device in devices], return_index=True)
        self.count, self.rows = len(devices), NamedSharding(mesh, P(mesh.axis_names))
        self.gather = jax.jit(lambda values: values, out_shardings=parallel.replicated(mesh))
        self.sent: jax.Array | None = None

    def tell(self, *values: float) -> None:
        """Start to send the numbers of this process to the others."""
        mine = np.array([values], np.float32)
        local = jax.make_array_from_callback((self.count, len(values)), self.rows, lambda _: mine)
        self.sent = self.gather(local)

    def told(self) -> np.ndarray:
        """float32[processes, values] of the last `tell`; waits for work that the devices had before it."""
        assert self.sent is not None
        return np.asarray(self.sent)[self.first]
