"""A state written on one mesh is the same on another, and the run goes on with the same data."""

import shutil

import jax
import numpy as np
import pytest

from configs import llava15
from rlaifv_jax.checkpoint import Checkpoints
from rlaifv_jax.optim import make_optim, optimizer
from rlaifv_jax.prepare import prepare
from rlaifv_jax.starting_model import StartingModel
from rlaifv_jax.state import abstract_state
from rlaifv_jax.train import train
from tests import world

SAVED, STEPS = 3, 6


@pytest.fixture(scope="module")
def setting(tmp_path_factory, tokenizer_dir):
    """A run of six steps on (1, 8, 1), which are all devices of this process."""
    folder = tmp_path_factory.mktemp("elastic")
    model, data = world.write_model(folder / "model", tokenizer_dir), world.write_pairs(folder / "pairs.parquet")
    settings = {"model__path": str(model), "data__path": str(data), "output_dir": str(folder / "run")}
    settings |= {"data__workers": 0, "precision__compute": "float32", "optim__lr": 1e-3, "train__batch_pairs": 8}
    settings |= {"train__steps": STEPS, "checkpoint__every": SAVED, "checkpoint__keep": 5, "train__longest_row": 320}
    train(config(settings))
    return folder, settings


def config(settings, **changes):
    values = llava15.get_config()
    world.set_keys(values, settings | changes)
    return values


def restored(settings, shape):
    """The newest state on a mesh, as arrays of the host, and how its largest array is laid out."""
    names = ("mesh__data", "mesh__fsdp", "mesh__tensor")
    values = config(settings, **dict(zip(names, shape, strict=True)))
    run = prepare(values)
    with jax.set_mesh(run.mesh):
        abstract = abstract_state(run, optimizer(make_optim(values, run.plan.steps)))
        checkpoints = Checkpoints(run.output_dir, values, run.data.train.index.data_fingerprint, run.mesh)
        step, state = checkpoints.restore(abstract, StartingModel(run, name=None))
        checkpoints.close()
    assert step == STEPS
    largest = max(jax.tree.leaves(state.params), key=lambda leaf: leaf.size)
    assert largest.sharding.mesh.shape == dict(zip(("data", "fsdp", "tensor"), shape, strict=True))
    return jax.tree.map(np.asarray, state), run


def test_the_same_values_on_every_mesh_and_the_same_data(setting):
    _, settings = setting
    before, first = restored(settings, (1, 8, 1))
    for shape in ((1, 4, 2), (2, 4, 1), (2, 2, 2)):
        after, run = restored(settings, shape)
        jax.tree.map(np.testing.assert_array_equal, after, before)
        assert [run.deal(step).tolist() for step in range(STEPS)] == [
            first.deal(step).tolist() for step in range(STEPS)
        ]


@pytest.mark.parametrize(("devices", "mesh"), [(4, {"mesh__fsdp": 2, "mesh__tensor": 2})])
def test_a_run_goes_on_with_fewer_devices(setting, devices, mesh):
    folder, settings = setting
    output = folder / f"on-{devices}"
    shutil.copytree(folder / "run", output)
    shutil.rmtree(output / "checkpoints" / str(STEPS))
    changes = {**settings, "output_dir": output, **mesh}
    paths = [folder / "model", folder / "pairs.parquet"]
    said = world.run_ok(world.command("train", *paths, **{"output": output, **changes}), devices)
    assert f"going on from step {SAVED}" in said
    whole, ours = world.metrics(folder / "run"), world.metrics(output)
    assert [line["step"] for line in ours] == [line["step"] for line in whole]
    for before, after in zip(whole[SAVED:], ours[SAVED:], strict=True):
        for name in ("loss", "grad_norm", "logps_train/chosen", "logps_train/ref_chosen"):
            np.testing.assert_allclose(after[name], before[name], rtol=1e-4, err_msg=name)
