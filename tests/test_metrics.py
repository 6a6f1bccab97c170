import json

from etils import epath
from ml_collections import ConfigDict

from rlaifv_jax.metrics import JsonLines, RunLog


def test_lines_beyond_the_restored_step_and_torn_lines_go(tmp_path):
    path = epath.Path(tmp_path / "m.jsonl")
    lines = [json.dumps({"step": step}) for step in (1, 2, 3)]
    path.write_text("\n".join([*lines, '{"step": 2, "lo']))
    log = JsonLines(path, resume_step=2)
    log.write({"step": 3, "loss": 0.5})
    log.close()
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1},
        {"step": 2},
        {"step": 3, "loss": 0.5},
    ]


def test_clock_values_stay_out_of_metrics(tmp_path):
    log = RunLog(epath.Path(tmp_path), 0, ConfigDict({"project": "", "name": ""}), {})
    log.write(1, {"loss": 0.25}, {"mfu": None, "seconds": 2.0})
    log.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "loss": 0.25}
    assert json.loads((tmp_path / "timing.jsonl").read_text()) == {"step": 1, "mfu": None, "seconds": 2.0}
    assert list((tmp_path / "tensorboard").iterdir())
