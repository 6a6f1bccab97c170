import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from rlaifv_jax import parallel
from rlaifv_jax.errors import UserError
from tests import tiny


def test_parameters_are_cut_by_the_rules():
    mesh = parallel.make_mesh(1, 4, 2, devices=jax.devices()[:8])
    where = parallel.shardings(tiny.BLUEPRINT.axes, tiny.BLUEPRINT.shapes, mesh)
    gate = where["decoder"]["layers"]["mlp"]["gate"]["kernel"]
    assert gate.spec == P(None, ("fsdp",), ("tensor",))  # layers whole, width over fsdp, hidden over tensor
    assert where["decoder"]["norm"]["scale"].spec == P(None)


def test_an_axis_that_does_not_divide_stays_whole():
    mesh = parallel.make_mesh(1, 4, 2, devices=jax.devices()[:8])
    assert parallel.spec(("vocab", "embed"), (99, 48), mesh) == P(None, ("fsdp",))


def test_minus_one_takes_the_rest():
    mesh = parallel.make_mesh(2, -1, 1, devices=jax.devices()[:8])
    assert dict(mesh.shape) == {"data": 2, "fsdp": 4, "tensor": 1}


@pytest.mark.parametrize("sizes", [(3, 2, 1), (-1, -1, 1), (0, 8, 1), (16, 1, 1)])
def test_impossible_meshes_are_refused(sizes):
    with pytest.raises(UserError, match="does not make the 8 devices"):
        parallel.make_mesh(*sizes, devices=jax.devices()[:8])


def test_rows_reach_every_device_once():
    mesh = parallel.make_mesh(2, 2, 2, devices=jax.devices()[:8])
    assert parallel.local_rows(8, mesh).tolist() == list(range(8))
    batch = {"x": np.arange(16).reshape(2, 8)}
    placed = parallel.put_rows(batch, mesh, leading=1)["x"]
    assert placed.sharding.spec == P(None, ("data", "fsdp"))
    np.testing.assert_array_equal(placed, batch["x"])
