"""The running account of a training loop: progress bar, metrics, speed.

The device works while the host writes: metrics of a step are fetched only when the next one is already under way.
"""

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from rlaifv_jax import flops, parallel
from rlaifv_jax.cli import say
from rlaifv_jax.clock import Clock, first_start, memory, started
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.errors import UserError
from rlaifv_jax.job import trained_parts
from rlaifv_jax.machines import note_machine
from rlaifv_jax.metrics import RunLog, named
from rlaifv_jax.optim import Optim, schedule
from rlaifv_jax.prepare import Run
from rlaifv_jax.profile import Profile, steps_of
from rlaifv_jax.stopping import Stop


class Journal:
    """Keeps the account in the first process of a job; in the others it only passes the batches on."""

    def __init__(self, run: Run, optim: Optim, start: int, stop: Stop):
        self.run, self.plan, self.start = run, run.plan, start
        self.learning_rate = schedule(optim)
        self.main = parallel.is_main()
        self.pending: tuple[int, dict[str, jax.Array]] | None = None
        self.stop = stop
        self.profile = Profile(steps_of(run.config.profile.steps), run.output_dir / "profile")
        self.warned = ""
        self.last_step = start
        self.unusable = 0  # steps in a row whose loss or gradient was not finite
        index = run.data.train.index
        self.rows: dict[str, float] = {
            "data/skipped_rows": len(index.bad),
            "data/truncated_rows": int(index.truncated.any(axis=1).sum()),
        }
        if index.changed.size:
            self.rows["data/changed_tokens"], self.rows["data/unchanged_pairs"] = index.changed_share()
        self.bar = tqdm(total=self.plan.steps, initial=start, unit="step", desc="train", disable=not self.main)
        self.log: RunLog | None = None
        if self.main:
            resolved = run.config.to_dict()
            (run.output_dir / "config.json").write_text(json.dumps(resolved, indent=2))
            note_machine(run.output_dir, start)
            self.log = RunLog(run.output_dir, start, run.config.wandb, resolved)
        lines = [json.loads(line) for line in self.log.timing.lines[-1:]] if self.log else []
        useful = lines[0].get("useful_seconds", 0.0) if lines else 0.0
        self.clock = Clock(first_start(run.output_dir) if self.main else started(), useful)

    def watch(self, batches: Iterable[tuple[int, Batch]]) -> Iterator[tuple[int, Batch]]:
        """The batches. Asks the other processes before each step (see Stop) and tells what it has waited."""
        stream = iter(batches)
        while True:
            started = time.perf_counter()
            item = next(stream, None)
            if item is None:
                return
            step = item[0] + 1
            if self.profile.ends_before(step):
                self._write_pending()  # waits for the step before
                self.profile.end()
            self.profile.begin(step)
            self.stop.ask(time.perf_counter() - started)
            yield item

    def record(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Note the metrics of `step` (on device), and write those of the step before."""
        self._write_pending()
        self.pending = (step, metrics)

    def lacks_evaluation(self, step: int) -> bool:
        """Whether an evaluation that was due behind this step was not made; all processes agree."""
        lacks = self.log is not None and not any(
            entry["step"] == step and "eval_loss" in entry for entry in map(json.loads, self.log.metrics.lines)
        )
        return bool(multihost_utils.broadcast_one_to_all(np.array(lacks)))

    def record_evaluation(self, step: int, metrics: dict[str, float] | None) -> None:
        """Write the metrics of an evaluation, if it came to its end."""
        if self.log and metrics is not None:
            self.log.write(step, metrics)
            values = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            tqdm.write(f"step {step}: {values}", file=sys.stderr)

    @contextlib.contextmanager
    def pause(self, reason: str) -> Iterator[None]:
        """Around a 'checkpoint' or an 'evaluation': all is written before, and the clock of steps stands still."""
        self._write_pending()
        if self.log:
            self.log.flush()
        with self.clock.pause(reason):
            yield

    def close(self) -> None:
        self._write_pending()
        self.profile.end()
        self.bar.close()
        if self.log:
            self.log.close()

    def _write_pending(self) -> None:
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        values = {name: float(value) for name, value in metrics.items()}  # waits for the device
        self._check_finite(step, values)
        if not self.log:
            return
        self.bar.update(1)
        self.bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
        if step % self.run.config.train.log_every and step != self.plan.steps:
            return
        values |= {
            "learning_rate": float(self.learning_rate(max(step - 1 - values.get("skipped_steps", 0), 0))),
            "epoch": step / self.plan.steps_per_epoch,
            **self.rows,
        }
        self.log.write(step, named(values, "train"), self._timing(step))

    def _check_finite(self, step: int, values: dict[str, float]) -> None:
        """Costs nothing: the values have been fetched to be written."""
        guard = self.run.config.guard
        if math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"]):
            self.unusable = 0
            return
        self.unusable += 1
        what = f"step {step}: loss {values['loss']}, gradient norm {values['grad_norm']}"
        if guard.nonfinite == "skip" and self.unusable < guard.nonfinite_steps:
            if self.main:
                say(f"warning: {what}: skipped, the parameters stay as they were")
            return
        in_a_row = f", the last of {self.unusable} such steps in a row" if self.unusable > 1 else ""
        raise UserError(
            f"{what}{in_a_row}: the run has diverged, or model.path holds such numbers. Nothing was saved since the "
            "last checkpoint, which is whole; try a lower optim.lr or optim.grad_clip=1."
        )

    def _timing(self, step: int) -> dict[str, Any]:
        """Speed since the last line, from the true lengths of the examples (padding does not count)."""
        line = self.clock.read(step - self.last_step, self.stop.waited)
        self.stop.waited = np.zeros(1)
        seconds = line["seconds_per_step"] * (step - self.last_step)
        index, config = self.run.data.train.index, self.run.model.config
        places = np.concatenate([self.run.deal(number) for number in range(self.last_step, step)])
        self.last_step = step
        work = flops.row_flops(
            config,
            index.prefix_lengths[places],
            index.answer_lengths[places],
            index.target_counts[places].sum(axis=1),
            index.images[places],
            trained_parts(self.run.config),
        )
        warning = self.clock.straggler(line)
        if warning and not self.warned:  # once is enough: the numbers are in timing.jsonl
            say(f"warning: {warning}")
            self.warned = warning
        return {
            **line,
            **memory(),
            "pairs_per_second": len(places) / seconds,
            "tokens_per_second": float(index.lengths[places].sum()) / seconds,
            "mfu": flops.mfu(float(work.sum()), seconds),
        }
