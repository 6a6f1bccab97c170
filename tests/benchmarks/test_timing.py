"""Contenders take turns, medians count, and the JSON says what it promises."""

import json
import time

import pytest

from benchmarks import timing


def test_contenders_take_turns():
    order = []
    calls = {name: (lambda name=name: order.append(name)) for name in "ABC"}
    times = timing.interleave(calls, rounds=3, warm_up=1)
    assert "".join(order) == "ABC" + "ABC" * 4  # the first calls, one round to warm up, three that count
    assert all(len(value.wall) == len(value.cpu) == 3 for value in times.values())


def test_wall_and_cpu_seconds_are_told_apart():
    def busy():
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            pass

    times = timing.interleave({"sleep": lambda: time.sleep(0.05), "busy": busy}, rounds=3)
    assert min(times["sleep"].wall) >= 0.05
    assert max(times["sleep"].cpu) < 0.04
    assert sum(times["busy"].cpu) > sum(times["sleep"].cpu)


@pytest.fixture
def entry():
    times = {
        "ours": timing.Times(first=9.0, wall=[1.0, 2.0, 30.0], cpu=[2.0, 4.0, 60.0]),
        "slow": timing.Times(first=1.0, wall=[8.0, 8.0, 8.0], cpu=[8.0, 8.0, 8.0]),
        "fast": timing.Times(first=1.0, wall=[6.0, 6.0, 1.0], cpu=[10.0, 10.0, 10.0]),
    }
    return timing.case("a case", times, {"pairs": 8})


def test_a_case_holds_medians_and_where_they_come_from(entry):
    assert entry["name"] == "a case"
    assert entry["ours_s"] == 2.0
    assert entry["peers"] == {"slow": 8.0, "fast": 6.0}
    assert entry["ratio_to_best_peer"] == 3.0
    assert entry["cpu_ratio_to_best_peer"] == 2.0  # the peer that is best in CPU seconds is another
    assert entry["rounds"]["ours"] == {"wall_s": [1.0, 2.0, 30.0], "cpu_s": [2.0, 4.0, 60.0], "first_s": 9.0}
    assert entry["setting"] == {"pairs": 8}
    assert {"jax", "torch", "python"} <= entry["versions"].keys()
    assert entry["hardware"]["cores"] >= 1
    assert entry["hardware"]["cpu"]


def test_report_prints_a_table_and_writes_a_list(entry, tmp_path, capsys):
    file = tmp_path / "out.json"
    timing.report([entry], file)
    assert json.loads(file.read_text()) == [entry]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a case"
    assert lines[3].split() == ["slow", "8.00s", "8.00s", "8.00s", "8.00s", "1.00s", "4.00", "2.00"]
    assert lines[5].strip() == "pairs 8"
