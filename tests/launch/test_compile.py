"""The command on the real compiler: a tiny model in seconds, the 7B model in the slow tests."""

import json
import subprocess
import sys

import numpy as np
import pytest

from configs import llava15, llava15_large
from launch import chips, jobs, topologies
from rlaifv_jax import parallel
from tests.convert.llavas import TinyLlava

libtpu = pytest.importorskip("libtpu")


def run(*flags, timeout=600):
    """(exit status, stdout, stderr) of `python -m launch.compile`."""
    command = [sys.executable, "-m", "launch.compile", "--config=configs/llava15.py", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return TinyLlava(kv_heads=4).write(tmp_path_factory.mktemp("tiny"))


def test_reports_both_steps_of_a_model_directory(tiny):
    flags = (f"--config.model.path={tiny}", "--config.attention.backend=dense")
    status, out, err = run("--topology=v5e:2x2", "--json", *flags)
    assert status == 0, err
    train, logprob = map(json.loads, out.splitlines())
    assert (train["topology"], train["step"], logprob["step"]) == ("v5e:2x2", "train", "logprob")
    for found in (train, logprob):
        assert found["fits"]
        assert 0 < found["peak_bytes"] < found["hbm_bytes"] == pytest.approx(15.75 * 2**30)
        assert 0 < found["model_flops"] < found["executed_flops"]
        assert found["collectives"]["all-gather"]["bytes"] > 0
        assert 0 < found["mfu_bound"] < 1
    assert train["pairs"] == 8
    assert train["optimizer_bytes"] > 1.9 * (train["weights_bytes"] - logprob["weights_bytes"])
    assert train["model_flops"] == pytest.approx(3 * logprob["model_flops"], rel=0.35)  # the tower goes forward only


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "which slice?"),
        (("--topology=v5e",), "'v5e' is no slice; examples are v5e:4x4"),
        (("--topology=v5p:4x4",), "'v5p:4x4' is no slice"),
        (("--topology=v5e:4x4", "--steps=generate"), "'generate' is not known"),
        (("--topology=v5e:4x4", "--rows=-1"), "--rows must not be negative"),
        (("--topology=v5e:2x2", "--config.mesh.fsdp=3"), "does not make the 4 devices"),
        (("--topology=v5e:4x4", "--config.attention.backend=magic"), "attention.backend is 'magic'"),
    ],
)
def test_mistakes_are_one_line(flags, message):
    status, out, err = run(*flags)
    assert status == 2
    assert not out
    assert message in err
    assert "Traceback" not in err


def test_rows_are_filled_as_the_planner_fills_them():
    devices = topologies.devices("v5e:4x4", 1)
    mesh = parallel.make_mesh(1, -1, 1, devices)
    planned = jobs.make_job(llava15_large.get_config("16"), mesh, rows_per_chip=0)
    assert (planned.job.rows, planned.pairs, planned.job.shape.row_length) == (64, 122, 1600)
    filled = jobs.make_job(llava15.get_config(), mesh, rows_per_chip=4)
    assert filled.job.rows == 64
    assert filled.pairs >= 122
    published = jobs.make_job(llava15.get_config(), mesh, rows_per_chip=0)
    assert (published.job.rows, published.pairs) == (16, 8)


def test_model_flops_of_a_pair_are_the_published_ones():
    """31.5 TFLOP at the mean lengths for decoder and head; tower and projector add 1.3 %."""
    mesh = parallel.make_mesh(1, -1, 1, np.array(topologies.devices("v5e:2x4", 1)))
    planned = jobs.make_job(llava15.get_config(), mesh, rows_per_chip=4)
    assert jobs.model_flops(planned, trained=True) / planned.pairs == pytest.approx(31.8e12, rel=0.02)


def test_a_shortage_says_how_much_and_what_helps():
    error = Exception(
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (19.03G) exceeds "
        "available HBM (15.75G)."
    )
    config = llava15.get_config()
    config.train.remat = "none"
    found = jobs.shortage(error, chips.find("v5e"), config)
    assert found["reason"] == "needs 19.03 GiB, 3.28 more than a chip has"
    assert any("train.remat=full" in hint for hint in found["hints"])
    assert jobs.shortage(Exception("INTERNAL: something else"), chips.find("v5e"), config) is None


def test_the_7b_model_is_refused_on_four_chips_with_advice():
    status, out, err = run("--topology=v5e:2x2", "--steps=train")
    assert status == 1, err
    assert "does not fit: needs" in out
    assert "more chips" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("topology", "config", "rows"),
    [
        ("v5e:4x4", "llava15_large", 0),
        ("v5e:2x4", "llava15", 1),
        ("v5p:2x2x1", "llava15", 0),
        ("v6e:2x4", "llava15", 0),
    ],
)
def test_the_7b_step_fits_and_overlaps_its_gathers(topology, config, rows):
    status, out, err = run(
        f"--config=configs/{config}.py", f"--topology={topology}", "--steps=train", "--json", f"--rows={rows}"
    )
    assert status == 0, err
    found = json.loads(out)
    assert found["peak_bytes"] < found["hbm_bytes"]
    assert found["async_gather_share"] >= 0.9
    assert found["loops_counted_once"] == 0
    assert found["compile_seconds"] < 300  # 90 on an idle machine
    for array in found["largest_arrays"]:
        assert 32_000 not in array["shape"] or found["row_length"] not in array["shape"], "logits of whole rows"
        assert array["shape"].count(found["row_length"]) < 2, "scores of whole rows"
