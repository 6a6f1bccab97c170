"""The report of a run: what it says of what is there, and what it refuses."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlaifv_jax.cli import guard
from rlaifv_jax.errors import UserError
from rlaifv_jax.report.__main__ import write_report
from rlaifv_jax.report.about import duration
from rlaifv_jax.report.charts import POINTS, evenly, shown, thinned
from rlaifv_jax.report.contents import read
from rlaifv_jax.report.find import find, name_of
from rlaifv_jax.report.hallucination import wilson
from rlaifv_jax.report.reading import read_lines
from tests.fake_gcs import Cloud
from tests.report import runs
from tests.report.runs import EVIL

SECTIONS = (
    "Hallucination",
    "Before and after",
    "Training",
    "Claims and pairs",
    "Evaluations",
    "Time",
    "Made with",
    "Config",
)


def sections(page: str) -> list[str]:
    return [part.partition(">")[2] for part in page.split("</h2>")[:-1] for part in [part.rpartition("<h2 ")[2]]]


# ------------------------------------------------------------------------------------------------- what it says


def test_a_training_run(tmp_path: Path) -> None:
    page = Path(write_report(str(runs.training(tmp_path / "run")))).read_text()
    assert sections(page) == ["Training", "Time", "Made with", "Config"]  # what is not there has no section
    found = read(find(str(tmp_path / "run")))
    charts = {chart.title: chart for chart in found.training}
    assert list(charts)[:3] == ["Loss", "Reward margin, chosen less rejected", "Reward accuracy"]
    assert "Model FLOP utilization" not in charts  # null in every line
    training, held_out = charts["Loss"].lines
    assert (training.y[-1], list(held_out.x)) == (pytest.approx(0.58), [4, 8, 12])
    assert np.isnan(charts["Gradient norm"].lines[0].y[2])
    assert charts["Share of a step's time that waits for data"].lines[0].y == pytest.approx(0.1)
    facts = dict(found.facts)
    assert facts["Devices"] == "8 × TPU v5e in 2 processes, 4 CPU cores a host"
    assert (facts["Went on behind step"], facts["jax"], facts["Seed"]) == ("7", "9.9", "0")
    assert found.configs[0].changed == [("model.path", EVIL, "empty"), ("optim.lr", "0.0001", "5e-07")]
    assert found.bad_rows
    assert found.bad_rows.rows[0][1] == "2"
    assert dict(zip(*(found.times[0][1].heading, found.times[0][1].rows[0]), strict=True))["goodput"] == "45.0 %"


def test_rounds(tmp_path: Path) -> None:
    folder = runs.rounds(tmp_path / "rounds")
    runs.evaluation(folder / "eval" / "before", 30.0)
    runs.evaluation(folder / "eval" / "after", 10.0)
    page = Path(write_report(str(folder))).read_text()
    assert sections(page) == list(SECTIONS)
    found = read(find(str(folder)))
    assert found.legend == ["round 1", "round 2"]
    (chart,) = found.hallucination
    assert chart.places == ("1: 9", "1: 10 ★", "2: 9", "2: 10 ★")
    assert [list(line.y) for line in chart.lines] == [[0.5, 0.25], [0.25, 0.125]]
    assert chart.lines[1].low is not None
    assert chart.lines[1].low[1] == pytest.approx(wilson(0.125, 100)[0])
    assert found.comparison is not None
    assert (found.comparison.before, found.comparison.after) == ("round 1, step 9", "round 2, step 10")
    assert (found.comparison.fewer, found.comparison.more, found.comparison.same) == (1, 0, 2)
    first = found.comparison.samples[0]
    assert [claim.chance for claim in first.sides[0].claims] == pytest.approx([0.95, 0.05])
    assert first.picture.startswith("data:image/jpeg;base64,")
    assert [(row.what, row.counts) for row in found.filters if row.drops] == [("pairs over the cap", [1234, 1234])]
    assert "−1,234" in page
    assert "by 18%" in page
    assert [each.title for each in found.evaluation_charts] == ["Bench: Hallucination"]
    assert found.evaluations
    assert found.evaluations.rows[0][4] == "8.00 to 12.00"
    assert EVIL not in page
    assert "<script" not in page


def test_rounds_of_several_places_are_kept_apart(tmp_path: Path) -> None:
    """By folder, also where its name has a dot; and no number of one stands beside the name of the other."""
    for name in ("llava-v1.5", "b"):
        runs.rounds(tmp_path / name)
        for number in (1, 2):
            runs.training(tmp_path / name / f"round_{number}" / "train")
    found = read(find(str(tmp_path)))
    both = [f"{name}, round {number}" for name in ("b", "llava-v1.5") for number in (1, 2)]
    assert list(found.legend) == both
    assert [[row[0] for row in table.rows] for _, table in found.times] == [both, both]
    assert found.checkpoints
    assert found.checkpoints.rows[-1][0] == "llava-v1.5, round 2, step 10, chosen"
    chart = found.hallucination[0]
    assert [line.label for line in chart.lines] == both
    assert [line.series for line in chart.lines] == [0, 1, 2, 3]
    assert chart.places[-1] == "llava-v1.5, 2: 10 ★"
    assert found.lead.startswith("4 rounds done")
    alone = read(find(str(tmp_path / "b")))
    assert list(alone.legend) == ["round 1", "round 2"]


@pytest.mark.parametrize(("form", "name"), [("md", "x.png"), ("png", "x.svg"), ("html", "x.md"), ("md", "x")])
def test_a_name_of_another_format(tmp_path: Path, form: str, name: str) -> None:
    runs.training(tmp_path / "run")
    with pytest.raises(UserError, match=rf"--output is .*{name}, and --format {form} is written; name it \*.{form}"):
        write_report(str(tmp_path / "run"), form, str(tmp_path / name))
    assert not (tmp_path / name).exists()


def test_for_pull_requests_and_papers(tmp_path: Path) -> None:
    folder = runs.rounds(tmp_path / "rounds")
    text = Path(write_report(str(folder), "md", str(tmp_path / "out.md"))).read_text()
    assert "![Charts of the run](out.png)" in text
    assert "| round 2, step 10, chosen | 0.875 | 100 | 0.125 |" in text
    assert r"\<script\>" in text
    assert "<script>" not in text
    picture = Image.open(write_report(str(folder), "png"))
    assert picture.format == "PNG"
    assert picture.width > 1500
    assert (tmp_path / "out.png").stat().st_size > 10_000


def test_feedback_alone(tmp_path: Path) -> None:
    folder = runs.feedback(tmp_path / "feedback", {"m": [[("A dog.", 1.0)], [("A cup.", 0.1), ("A cup.", 0.1)]]}, 2)
    page = Path(write_report(str(folder), output=str(tmp_path / "page.html"))).read_text()
    assert sections(page) == ["Claims and pairs", "Made with"]
    assert page.count("<article") == 2


def test_long_runs_are_thinned_and_quick(tmp_path: Path) -> None:
    count = 100_000
    line = '{{"step": {0}, "loss": {1}, "rewards_train/margins": 1.0, "grad_norm": 1.0, "learning_rate": 1e-6}}\n'
    (tmp_path / "metrics.jsonl").write_text("".join(line.format(k, k % 7) for k in range(1, count + 1)))
    started = time.perf_counter()
    page = Path(write_report(str(tmp_path)))
    assert time.perf_counter() - started < 30
    assert page.stat().st_size < 3_000_000
    assert "mean of 417 lines of the log, in a band from the lowest to the highest" in page.read_text()


def test_thinning_keeps_extremes_and_means() -> None:
    x, y = np.arange(1000.0), np.zeros(1000)
    y[123], y[124], y[10:15] = 9, -9, np.nan
    y[500:510] = np.nan
    line = thinned("l", x, y)
    assert len(line.x) == len(line.y) <= POINTS
    assert line.every == 5
    assert line.low is not None
    assert line.high is not None
    assert (np.nanmin(line.low), np.nanmax(line.high)) == (-9, 9)
    assert line.y[2:4].tolist() == pytest.approx([np.nan, 0], nan_ok=True)
    assert np.isnan(line.low[100])
    assert thinned("l", x[:POINTS], y[:POINTS]).low is None


def test_numbers() -> None:
    assert wilson(0.0, 100) == (0.0, pytest.approx(0.0370, abs=1e-4))
    assert wilson(0.5, 100) == (pytest.approx(0.4038, abs=1e-4), pytest.approx(0.5962, abs=1e-4))
    assert [shown(v) for v in (5e-7, -1.25, 12345.6, float("nan"), 3.0)] == ["5e−07", "−1.25", "12,346", "–", "3"]
    assert [duration(s) for s in (0.424, 12.34, 184, 18720, None)] == [
        "0.42 s",
        "12.3 s",
        "3 min 4 s",
        "5 h 12 min",
        "–",
    ]
    assert evenly(10, 3) == [0, 4, 9]
    assert evenly(0, 3) == []
    assert name_of("rounds/round_2/measured/14", "x") == "round 2, step 14"
    assert name_of("a/round_3/train", "x") == "round 3"
    assert (name_of(".", "x"), name_of("eval/amber", "x")) == ("x", "eval/amber")


# ------------------------------------------------------------------------------------------------- what it refuses


def test_directories_that_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no such directory"):
        write_report(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"is no run: neither metrics.jsonl"):
        write_report(str(tmp_path))


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("round_1/train/metrics.jsonl", '{"step": 1}\n{"ste\n{"step": 3}\n', r"metrics.jsonl, line 2: "),
        ("round_1/train/metrics.jsonl", '{"loss": 1}\n', r"metrics.jsonl, line 1: has no step"),
        ("round_1/train/config.json", "[1]", r"config.json is list; an object is needed"),
        ("state.json", "{", r"state.json cannot be read"),
        ("state.json", '{"config": {}, "rounds": 3}', r"state.json has no list of rounds"),
        ("round_1/pairs/pairs.jsonl", '{"chosen": 1}\n', r"pairs.jsonl, line 1: has no chosen and rejected text"),
        ("round_2/score/00000.jsonl", "\xff\xfe\n", r"00000.jsonl, line 1: |00000.jsonl cannot be read"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, file: str, text: str, message: str) -> None:
    folder = runs.rounds(tmp_path / "rounds")
    (folder / file).write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=message):
        write_report(str(folder))


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("metrics.jsonl", '{"step": 1, "loss": ' + "9" * 400 + '}\n{"step": 2, "loss": 1}\n'),
        ("metrics.jsonl", '{"step": 1, "loss": -1e308}\n{"step": 2, "loss": 1e308}\n{"step": 3, "loss": 1}\n'),
        ("timing.jsonl", '{"step": 1, "goodput": ' + "9" * 400 + "}\n"),
        ("machines.json", "[" * 100_000),
        ("eval/scores.json", '{"headline": 5, "metrics": [1], "n": 1e999}'),
        ("eval/scores.json", '{"headline": ["a"], "metrics": {"a": 1}, "intervals": {"a": [1]}, "n": "x"}'),
    ],
)
def test_numbers_that_are_none_are_passed_over(tmp_path: Path, file: str, text: str) -> None:
    folder = runs.training(tmp_path / "run")
    runs.evaluation(folder / "eval", 30.0)
    (folder / file).write_text(text)
    assert Path(write_report(str(folder))).stat().st_size > 10_000


def test_counts_that_are_no_numbers(tmp_path: Path) -> None:
    folder = runs.rounds(tmp_path / "rounds")
    for file in folder.rglob("pairs/report.json"):
        told = json.loads(file.read_text())
        file.write_text(json.dumps(told | {"counts": dict.fromkeys(told["counts"], "x")}))
    assert not read(find(str(folder))).filters


@pytest.mark.parametrize("address", ["GS://bucket/run", "s3://bucket/run", "foo://bucket/run"])
def test_addresses_of_other_stores(address: str) -> None:
    with pytest.raises(UserError, match=f"{address}: runs are read from this machine's disks and from gs://"):
        find(address)


def test_a_bucket_that_cannot_be_read(cloud: Cloud, capsys: pytest.CaptureFixture[str]) -> None:
    assert guard(lambda: find("gs://forbidden/run")) == 2
    assert "does not have storage.objects" in capsys.readouterr().err


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text('{"a": 1}\n{"a": 2}')
    assert len(list(read_lines(tmp_path / "lines"))) == 2  # type: ignore[arg-type]  # opens as one of etils does
    (tmp_path / "lines").write_text('{"a": 1}\n{"a": ')
    assert len(list(read_lines(tmp_path / "lines"))) == 1  # type: ignore[arg-type]


def test_the_command(tmp_path: Path) -> None:
    runs.training(tmp_path / "run")
    command = [sys.executable, "-m", "rlaifv_jax.report"]
    done = subprocess.run([*command, tmp_path / "run"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "run" / "report.html")
    place = str(tmp_path / "no" / "such" / "place.html")
    done = subprocess.run([*command, tmp_path / "run", "--output", place], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be written" in done.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["model"]["path"] == EVIL
