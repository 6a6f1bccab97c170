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
from tqdm import tqdm

from rlaifv_jax import flops, parallel
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.errors import UserError
from rlaifv_jax.job import trained_parts
from rlaifv_jax.metrics import RunLog, named
from rlaifv_jax.optim import Optim, schedule
from rlaifv_jax.prepare import Run


class Journal:
    """Keeps the account in the first process of a job; in the others it only passes the batches on."""

    def __init__(self, run: Run, optim: Optim, start: int):
        self.run, self.plan, self.start = run, run.plan, start
        self.learning_rate = schedule(optim)
        self.main = parallel.is_main()
        self.pending: tuple[int, dict[str, jax.Array]] | None = None
        self.waited = 0.0  # seconds the loop has waited for data since the last line
        self.clock = time.perf_counter()
        self.last_step = start
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
            self.log = RunLog(run.output_dir, start, run.config.wandb, resolved)

    def watch(self, batches: Iterable[tuple[int, Batch]]) -> Iterator[tuple[int, Batch]]:
        """The batches, with the time spent waiting for each."""
        stream = iter(batches)
        while True:
            started = time.perf_counter()
            item = next(stream, None)
            self.waited += time.perf_counter() - started
            if item is None:
                return
            yield item

    def record(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Note the metrics of `step` (on device), and write those of the step before."""
        self._write_pending()
        self.pending = (step, metrics)

    def record_evaluation(self, step: int, metrics: dict[str, float]) -> None:
        if self.log:
            self.log.write(step, metrics)
            values = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
            tqdm.write(f"step {step}: {values}", file=sys.stderr)

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """Around a checkpoint or an evaluation: everything is written before, and the clock stands still."""
        self._write_pending()
        if self.log:
            self.log.flush()
        stopped = time.perf_counter()
        yield
        self.clock += time.perf_counter() - stopped

    def close(self) -> None:
        self._write_pending()
        self.bar.close()
        if self.log:
            self.log.close()

    def _write_pending(self) -> None:
        if self.pending is None:
            return
        step, metrics = self.pending
        self.pending = None
        values = {name: float(value) for name, value in metrics.items()}  # waits for the device
        if not (math.isfinite(values["loss"]) and math.isfinite(values["grad_norm"])):
            raise UserError(
                f"step {step}: loss {values['loss']}, gradient norm {values['grad_norm']}: the run has diverged, or "
                "model.path holds such numbers. Nothing was saved since the last checkpoint; try a lower optim.lr or "
                "optim.grad_clip=1."
            )
        if not self.log:
            return
        self.bar.update(1)
        self.bar.set_postfix(loss=f"{values['loss']:.4f}", refresh=False)
        if step % self.run.config.train.log_every and step != self.plan.steps:
            return
        values |= {
            "learning_rate": float(self.learning_rate(step - 1)),
            "epoch": step / self.plan.steps_per_epoch,
            **self.rows,
        }
        self.log.write(step, named(values, "train"), self._timing(step))

    def _timing(self, step: int) -> dict[str, Any]:
        """Speed since the last line, from the true lengths of the examples (padding does not count)."""
        seconds, waited, steps = time.perf_counter() - self.clock, self.waited, step - self.last_step
        self.clock, self.waited = time.perf_counter(), 0.0
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
        return {
            "seconds_per_step": seconds / steps,
            "data_wait_per_step": waited / steps,
            "pairs_per_second": len(places) / seconds,
            "tokens_per_second": float(index.lengths[places].sum()) / seconds,
            "mfu": flops.mfu(float(work.sum()), seconds),
        }
