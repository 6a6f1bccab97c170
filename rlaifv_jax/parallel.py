"""Devices: the mesh, the table of logical axes, and where every array lives. Models never name a mesh axis.

Models name the axes of their parameters and activations by meaning ('embed', 'heads', 'mlp', 'vocab', 'batch');
RULES below says which mesh axis carries each of them. Changing the layout of the whole system is an edit here.
"""

import importlib.util
import math
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rlaifv_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")
PATIENCE = 7 * 24 * 3600  # seconds that processes wait at their end for the first one, which may have judges to ask

# Logical axis → mesh axes. Rows are spread over data and fsdp; parameters are cut over fsdp along their
# width and over tensor along heads, hidden units and vocabulary. An axis that is not listed is whole everywhere.
RULES: Mapping[str, tuple[str, ...]] = {
    "batch": ("data", "fsdp"),
    "embed": ("fsdp",),
    "heads": ("tensor",),
    "mlp": ("tensor",),
    "vocab": ("tensor",),
}


def initialize() -> None:
    """Join the other processes of the job, where there are any.

    On a TPU pod slice the addresses come from the TPU runtime; elsewhere from the variables JAX itself
    reads: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID. A lone process needs nothing.
    Must run before the first use of a device.
    """
    if jax.distributed.is_initialized():
        return
    wanted = os.environ.get("JAX_PLATFORMS", "")
    on_tpu = (
        (not wanted or "tpu" in wanted)
        and importlib.util.find_spec("libtpu") is not None
        and any(os.path.exists(device) for device in ("/dev/accel0", "/dev/vfio/0"))
    )
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        jax.distributed.initialize(
            coordinator_address=os.environ["JAX_COORDINATOR_ADDRESS"],
            num_processes=int(os.environ.get("JAX_NUM_PROCESSES", "1")),
            process_id=int(os.environ.get("JAX_PROCESS_ID", "0")),
            shutdown_timeout_seconds=PATIENCE,
        )
    elif on_tpu:
        jax.distributed.initialize(shutdown_timeout_seconds=PATIENCE)


def make_mesh(data: int, fsdp: int, tensor: int, devices: Any = None) -> Mesh:
    """The mesh `('data', 'fsdp', 'tensor')` over all devices; one size may be -1 for 'the rest'.

    Raises:
      UserError: the sizes do not multiply to the number of devices, or would cut weights across slices.
    """
    devices = np.asarray(jax.devices() if devices is None else devices)
    sizes = [data, fsdp, tensor]
    known = int(np.prod([size for size in sizes if size != -1]))
    if sizes.count(-1) == 1 and known > 0 and devices.size % known == 0:
        sizes[sizes.index(-1)] = devices.size // known
    if min(sizes) < 1 or int(np.prod(sizes)) != devices.size:
        raise UserError(
            f"mesh.data × mesh.fsdp × mesh.tensor = {data} × {fsdp} × {tensor} does not make the "
            f"{devices.size} devices of this job; one of the three may be -1, which takes the rest."
        )
    types = (AxisType.Auto,) * 3
    if devices.flat[0].platform != "tpu":
        return Mesh(devices.reshape(sizes), AXES, axis_types=types)
    # Neighbours on the mesh are neighbours in the slice.
    chips = devices.flatten().tolist()
    slices = len({getattr(chip, "slice_index", 0) for chip in chips})
    if slices == 1:
        return jax.make_mesh(tuple(sizes), AXES, axis_types=types, devices=chips)
    if sizes[0] % slices:
        raise UserError(
            f"mesh.data is {sizes[0]}, but these chips are {slices} slices: give a multiple of {slices}, since only "
            "mesh.data may cross the network between slices"
        )
    inner = (sizes[0] // slices, *sizes[1:])
    placed = mesh_utils.create_hybrid_device_mesh(inner, (slices, 1, 1), chips, allow_split_physical_axes=True)
    return Mesh(placed, AXES, axis_types=types)


def spec(axes: tuple[str | None, ...], shape: tuple[int, ...], mesh: Any) -> P:
    """The PartitionSpec of an array whose last dimensions carry the logical `axes`.

    Leading dimensions beyond `axes` (stacked layers) stay whole, and so does a dimension that its mesh
    axes do not divide, e.g. a vocabulary of 32,009 over 4 chips.
    """
    padded = (None,) * (len(shape) - len(axes)) + tuple(axes)
    return P(*(mesh_axes(axis, size, mesh) or None for axis, size in zip(padded, shape, strict=True)))


def mesh_axes(axis: str | None, size: int, mesh: Any) -> tuple[str, ...]:
    """The mesh axes over which a dimension of `size` with a logical `axis` is cut; none if they do not divide it."""
    names = RULES.get(axis, ()) if axis else ()
    return names if size % math.prod(mesh.shape[name] for name in names) == 0 else ()


def shardings(axes: Any, shapes: Any, mesh: Mesh) -> Any:
    """A tree of NamedSharding for a tree of shapes and its twin of logical axes (see models.blueprint)."""
    return jax.tree.map(
        lambda names, leaf: NamedSharding(mesh, spec(names, leaf.shape, mesh)),
        axes,
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Pin an activation to the layout of its logical axes, one for each dimension; no mesh, no effect."""
    if len(axes) != x.ndim:
        raise ValueError(f"{len(axes)} axes for an array of {x.ndim} dimensions")
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    return jax.lax.with_sharding_constraint(x, spec(axes, x.shape, mesh))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, P())


def rows_sharding(mesh: Mesh, leading: int = 0) -> NamedSharding:
    """Rows spread over the mesh, behind `leading` whole axes (micro-steps)."""
    return NamedSharding(mesh, P(*(None,) * leading, RULES["batch"]))


def rows_divisor(mesh: Mesh) -> int:
    """Rows of one micro-step must be a multiple of this."""
    return int(np.prod([mesh.shape[name] for name in RULES["batch"]]))


def local_rows(rows: int, mesh: Mesh) -> np.ndarray:
    """Which of the global `rows` this process feeds, ascending: int64[local rows]."""
    indices = rows_sharding(mesh).addressable_devices_indices_map((rows,))
    parts = [index[0] for index in indices.values() if index is not None]
    mine = {row for part in parts for row in range(*part.indices(rows))}
    return np.array(sorted(mine))


def put_rows(batch: Any, mesh: Mesh, leading: int = 0) -> Any:
    """Host arrays of this process's rows → global arrays spread over the mesh."""
    sharding = rows_sharding(mesh, leading)
    return jax.tree.map(lambda leaf: jax.make_array_from_process_local_data(sharding, np.asarray(leaf)), batch)


def is_main() -> bool:
    """True in the one process that prints and writes shared files."""
    return jax.process_index() == 0


def placed(shapes: Any, where: Any) -> Any:
    """Shapes and shardings → abstract arrays that jit can be lowered for and Orbax can restore onto."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, where
    )


def optimizer_shardings(optimizer: optax.GradientTransformation, shapes: Any, where: Any, mesh: Mesh) -> Any:
    """Shardings of an optimizer's state: moments lie where their parameter lies, counters everywhere."""
    return optax.tree_utils.tree_map_params(
        optimizer,
        lambda _, sharding: sharding,
        jax.eval_shape(optimizer.init, shapes),
        where,
        transform_non_params=lambda _: replicated(mesh),
    )
