"""Loss, accuracy and margins on held-out pairs."""

from functools import partial

import jax
import numpy as np

from rlaifv_jax import parallel
from rlaifv_jax.losses import Sums
from rlaifv_jax.metrics import named
from rlaifv_jax.prepare import Run
from rlaifv_jax.reference import References
from rlaifv_jax.step import TrainState, eval_step
from rlaifv_jax.stopping import Stop


class Evaluator:
    """Means over all held-out pairs, with the same forward pass as training. `metrics(state)` runs it."""

    def __init__(self, run: Run, references: References | None, abstract: TrainState):
        assert run.data.held_out is not None
        self.run = run
        self.data = run.data.held_out
        self.references = references
        self.step = (
            jax.jit(partial(eval_step, step=run.step), out_shardings=parallel.replicated(run.mesh))
            .lower(abstract.params, abstract.frozen, run.abstract_batch(1))
            .compile()
        )

    def metrics(self, state: TrainState, stop: Stop) -> dict[str, float] | None:
        """{'eval_loss': …, 'rewards_test/accuracies': …, …}; None if the run is asked to end meanwhile."""
        total: Sums | None = None
        for _, batch in self.run.one_pass(self.data, references=self.references):
            sums = self.step(state.params, state.frozen, parallel.put_rows(batch, self.run.mesh, leading=1))
            stop.ask()
            sums = jax.tree.map(lambda value: np.asarray(value, np.float64), sums)
            total = sums if total is None else jax.tree.map(np.add, total, sums)
            if stop.agreed():
                return None
        assert total is not None
        pairs = len(self.data.index)
        means = {name: float(value) / pairs for name, value in total.metrics.items()}
        return {"eval_loss": float(total.loss / total.divisor), **named(means, "test")}
