import json
import time

import numpy as np
from etils import epath

from rlaifv_jax.clock import Clock, first_start, start_again, started


def test_the_first_start_is_kept(tmp_path):
    assert first_start(epath.Path(tmp_path)) == started()
    (tmp_path / "started.json").write_text(json.dumps({"time": 5.0}))
    assert first_start(epath.Path(tmp_path)) == 5.0
    (tmp_path / "started.json").write_text('{"ti')
    assert first_start(epath.Path(tmp_path)) == started()


def test_a_run_that_begins_later_in_a_process(tmp_path):
    """Rounds train one after the other: what came before is not the time of the later one."""
    before, first = time.time(), first_start(epath.Path(tmp_path))
    start_again()
    assert first < before <= started() <= time.time()
    assert first_start(epath.Path(tmp_path)) == first
    (tmp_path / "later").mkdir()
    assert first_start(epath.Path(tmp_path / "later")) == started()


def test_a_line_tells_who_makes_the_others_wait():
    clock = Clock(began=0.0, useful=10.0)
    clock.line -= 8.0  # as if it had begun so long ago
    with clock.pause("checkpoint"):
        clock.line -= 2.0
        clock.paused["checkpoint"] += 2.0
    line = clock.read(4, np.array([0.1, 3.0, 0.2]))
    assert abs(line["seconds_per_step"] - 2.0) < 0.1
    assert line["data_wait_per_step"] == 0.75
    assert line["checkpoint_seconds"] >= 2.0
    assert abs(line["useful_seconds"] - 15.0) < 0.2
    assert clock.straggler(line).startswith("process 1 waits 0.75 s of a step's 2.0")
    assert clock.straggler({**line, "data_wait_per_step": 0.01}) == ""
    alone = clock.read(1, np.array([100.0]))
    assert clock.straggler(alone) == ""
    assert alone["checkpoint_seconds"] == 0
