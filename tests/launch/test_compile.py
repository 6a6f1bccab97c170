"""The command on the real compiler: a tiny model in seconds, the 7B model in the slow tests."""

import json
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

from configs import llava15, llava15_large
from launch import chips, jobs, topologies
from launch.attempt import shortage
from launch.compile import most_rows
from rlaifv_jax import flops, parallel
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


def test_slices_are_joined_by_the_data_axis(tiny):
    """Gradients are summed between two slices of four chips; weights are not gathered from the other slice."""
    flags = (f"--config.model.path={tiny}", "--config.attention.backend=dense", "--steps=train", "--json")
    two, one = (
        run("--topology=v5e:2x2", *each, *flags)
        for each in (("--slices=2", "--config.mesh.data=2", "--config.train.batch_pairs=16"), ())
    )
    assert two[0] == one[0] == 0, two[2] + one[2]
    two, one = json.loads(two[1]), json.loads(one[1])
    assert (two["topology"], two["chips"], two["mesh"]) == ("2 x v5e:2x2", 8, "2 x 4 x 1")
    assert one["chips"] == 4
    assert two["weights_bytes"] == one["weights_bytes"]
    assert two["collectives"]["all-gather"]["bytes"] == pytest.approx(
        one["collectives"]["all-gather"]["bytes"], rel=0.05
    )
    assert two["between_slices_bytes"] > 0
    assert not one["between_slices_bytes"]


@pytest.mark.parametrize("guess", [1, 6, 40])
@pytest.mark.parametrize("most", [0, 1, 2, 5, 8, 13])
def test_sweep_finds_the_most_rows(most, guess):
    tried = []

    def fits(rows):
        tried.append(rows)
        return rows <= most

    assert most_rows(fits, guess) == most
    assert len(set(tried)) == len(tried) <= 2 + 2 * max(most, guess).bit_length()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "which slice?"),
        (("--topology=v5e",), "'v5e' is no slice; examples are v5e:4x4"),
        (("--topology=v5p:4x4",), "'v5p:4x4' is no slice"),
        (("--topology=v5e:4x4", "--steps=generate"), "'generate' is not known; choose from train, logprob, prefill"),
        (("--topology=v5e:4x4", "--steps=decode", "--samples=0"), "must be at least 1"),
        (("--topology=v5e:4x4", "--rows=-1"), "--rows must not be negative"),
        (("--topology=v5e:4x4", "--rows=2", "--sweep"), "leave out --rows"),
        (("--topology=v5e:2x2", "--config.mesh.fsdp=3"), "does not make the 4 devices"),
        (
            ("--topology=v5e:2x2", "--config.train.row_length=100"),
            "train.row_length=100 is shorter than the longest pair",
        ),
        (("--topology=v5e:2x2", "--config.attention.tower=cudnn"), "needs NVIDIA GPUs: these devices are 'tpu'"),
        (("--topology=h100:1x1x8", "--slices=2"), "only TPUs come in slices"),
        (("--topology=v5e:2x2", "--slices=2"), "mesh.data is 1, but these chips are 2 slices"),
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
    assert filled.pairs == 125
    published = jobs.make_job(llava15.get_config(), mesh, rows_per_chip=0)
    assert (published.job.rows, published.pairs) == (16, 8)


def test_model_flops_of_a_pair_are_the_published_ones():
    """Decoder and head at the mean lengths, and 1.4 % more for tower and projector."""
    mesh = parallel.make_mesh(1, -1, 1, np.array(topologies.devices("v5e:2x4", 1)))
    planned = jobs.make_job(llava15.get_config(), mesh, rows_per_chip=4)
    places = np.concatenate([row for row in planned.rows if row])
    targets = planned.sizes.targets[places]
    answers = np.stack([targets / 2] * 2, axis=1)
    decoder = planned.model.config.decoder
    text = 3 * flops.decoder_flops(decoder, planned.sizes.tokens[places] - targets, answers, targets).mean()
    assert text == pytest.approx(31.5e12, rel=0.01)
    images = jobs.model_flops(planned, trained=True) / planned.pairs - text
    assert images == pytest.approx(366e9 + 3 * 24.2e9, rel=1e-3)  # tower forward, projector trained


def test_a_shortage_says_how_much_and_what_helps():
    error = Exception(
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (19.03G) exceeds "
        "available HBM (15.75G)."
    )
    config = llava15.get_config()
    config.train.remat = "none"
    assert shortage(error, chips.find("v5e")) == "needs 19.03 GiB, 3.28 more than a chip has"
    assert any("train.remat=full" in hint for hint in jobs.memory_hints(config))
    assert shortage(Exception("INTERNAL: something else"), chips.find("v5e")) is None


def test_the_7b_model_is_refused_on_four_chips_with_advice():
    status, out, err = run("--topology=v5e:2x2", "--steps=train")
    assert status == 1, err
    assert "does not fit: needs" in out
    assert "more chips" in out


def test_generation_of_a_model_directory(tiny):
    """Heads over four chips; a step reads the decoder, all prefixes, and a tenth of the suffixes' 512 columns."""
    flags = (f"--config.model.path={tiny}", "--steps=prefill,decode", "--rows=3", "--json")
    status, out, err = run("--topology=v5e:2x2", *flags)
    assert status == 0, err
    prefill, decode = map(json.loads, out.splitlines())
    for found in (prefill, decode):
        assert found["fits"]
        assert (found["mesh"], found["prompts"], found["branches"], found["columns"]) == ("1 x 1 x 4", 3, 5, 512)
        assert found["cache_bytes"] == 2 * 2 * 2 * 1 * 12 * 3 * (
            found["prefix"] + 5 * 512
        )  # K/V, 2 layers, bf16, 1 head
        assert 0 < found["model_flops"] <= found["executed_flops"]
        assert found["collectives"]["all-reduce"]["count"] > 0
    slots = decode["prompts"] * decode["branches"]
    assert decode["decode_tokens_per_second_bound"] == pytest.approx(slots / decode["step_seconds_at_least"])
    assert decode["tokens_per_second_bound"] < decode["decode_tokens_per_second_bound"]
    half = json.loads(run("--topology=v5e:2x2", *flags[:1], "--steps=decode", "--rows=3", "--json", "--cache=int8")[1])
    assert 0.5 < half["cache_bytes"] / decode["cache_bytes"] < 0.7  # heads of 12: a scale is a third of a vector
    status, out, err = run("--topology=v5e:2x2", *flags[:1], "--steps=decode", "--rows=4000000")
    assert status == 1, err
    assert "does not fit: " in out
    assert "--cache=int8" in out


@pytest.mark.slow
def test_sweep_of_the_7b_step():
    """Eight v5e chips hold a row each, and not many more."""
    status, out, err = run("--topology=v5e:2x4", "--steps=train", "--sweep", "--json", timeout=1200)
    assert status == 0, err
    tried = {each["rows"] // 8: each["fits"] for each in map(json.loads, out.splitlines())}
    most = max(rows for rows, fits in tried.items() if fits)
    assert 1 <= most <= 4
    assert all(fits == (rows <= most) for rows, fits in tried.items())
    assert most + 1 in tried
    assert f"v5e:2x4: train step fits with {most} rows" in err


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jax_cuda12_plugin") is None, reason="jax[cuda12] is not installed")
def test_compiles_for_h100(tiny):
    status, out, err = run("--topology=h100:1x1x2", "--json", f"--config.model.path={tiny}")
    assert status == 0, err
    train, logprob = map(json.loads, out.splitlines())
    assert train["fits"]
    assert logprob["fits"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("topology", "config", "rows"),
    [
        ("v5e:4x4", "llava15_large", 0),
        ("v5e:2x4", "llava15", 1),
        ("v5p:2x2x1", "llava15", 0),
        ("v6e:2x4", "llava15", 4),
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
        rows = range(found["row_length"], found["row_length"] + 512)  # also as kernels pad them
        assert sum(size in rows for size in array["shape"]) < 2, "scores of whole rows"
