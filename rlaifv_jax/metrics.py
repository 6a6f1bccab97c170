"""Where numbers of a run go: metrics.jsonl, timing.jsonl, TensorBoard, and Weights & Biases if asked.

metrics.jsonl holds only values that a second run with the same seed repeats to the last bit; whatever a clock
measured goes to timing.jsonl. On resume both are cut back to the restored step, so no step stands there twice.
"""

import importlib
import json
import math
import uuid
from typing import Any

from etils import epath
from tensorboardX import SummaryWriter

from rlaifv_jax.places import is_remote


def named(metrics: dict[str, float], phase: str) -> dict[str, float]:
    """The original's metric names: 'rewards/margins' of phase 'train' is 'rewards_train/margins'."""
    return {
        name.replace("/", f"_{phase}/", 1) if name.startswith(("rewards/", "logps/")) else name: value
        for name, value in metrics.items()
    }


class JsonLines:
    """A growing file of JSON objects, each with a `step`.

    Locally every line is appended and flushed. Object stores cannot append, so there the whole file is
    written anew by `flush`, which the trainer calls at every checkpoint.
    """

    def __init__(self, path: epath.Path, resume_step: int):
        self.path = path
        self.local = not is_remote(path)
        lines = path.read_text().splitlines() if path.exists() else []
        self.lines = [line for line in lines if _step(line) <= resume_step]
        self._write_all()
        self.stream = open(path, "a", encoding="utf-8") if self.local else None  # noqa: SIM115 (closed in close)

    def write(self, entry: dict[str, Any]) -> None:
        line = json.dumps(entry)
        if self.stream:
            self.stream.write(line + "\n")
            self.stream.flush()
        else:
            self.lines.append(line)  # for the next flush

    def flush(self) -> None:
        if not self.local:
            self._write_all()

    def close(self) -> None:
        self.flush()
        if self.stream:
            self.stream.close()

    def _write_all(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(self.path.name + ".part")
        part.write_text("".join(line + "\n" for line in self.lines))
        part.replace(self.path)


def _step(line: str) -> float:
    """The step of a line; a line torn by a kill counts as beyond every step."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")


class RunLog:
    """All sinks of a run. Only the main process has one."""

    def __init__(self, output_dir: epath.Path, resume_step: int, wandb: Any, config: dict[str, Any]):
        self.metrics = JsonLines(output_dir / "metrics.jsonl", resume_step)
        self.timing = JsonLines(output_dir / "timing.jsonl", resume_step)
        # tensorboardX writes to local files only; for gs:// the two JSONL files hold the same numbers.
        board = output_dir / "tensorboard"
        self.board = None if is_remote(board) else SummaryWriter(str(board), purge_step=resume_step + 1)
        self.wandb = None
        if wandb.project:
            file = output_dir / "wandb_id"  # a resumed run goes on under the same id
            if not file.exists():
                file.write_text(uuid.uuid4().hex[:8])
            self.wandb = importlib.import_module("wandb").init(
                project=wandb.project,
                name=wandb.name or None,
                id=file.read_text(),
                config=config,
                resume="allow",
            )

    def write(self, step: int, metrics: dict[str, Any], timing: dict[str, Any] | None = None) -> None:
        """Add one line to each file; values are floats, or null where nothing is known or the value is not finite."""
        metrics = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        self.metrics.write({"step": step, **metrics})
        if timing:
            self.timing.write({"step": step, **timing})
        known = {name: value for name, value in {**metrics, **(timing or {})}.items() if value is not None}
        if self.board:
            for name, value in known.items():
                self.board.add_scalar(name, value, step)
        if self.wandb:
            self.wandb.log(known, step=step)

    def flush(self) -> None:
        self.metrics.flush()
        self.timing.flush()
        if self.board:
            self.board.flush()

    def close(self) -> None:
        self.metrics.close()
        self.timing.close()
        if self.board:
            self.board.close()
        if self.wandb:
            self.wandb.finish()
