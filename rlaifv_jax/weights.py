"""The models of a run under OUTPUT_DIR/weights/STEP, one for every checkpoint: each a model.path like any other.

a model          in bfloat16, with config and tokenizer
or adapters      where no more is trained: adapters and projector in compute precision, as PEFT keeps them
"""

import os
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from convert import adapter_files
from convert.load import StoredModel
from convert.orbax_dir import is_complete, make_checkpointer, save_params
from rlaifv_jax import parallel
from rlaifv_jax.models.blueprint import cast, flat, join
from rlaifv_jax.models.lora import Lora
from rlaifv_jax.prepare import Run
from rlaifv_jax.step import TrainState


class Weights(Protocol):
    def directory(self, step: int) -> epath.Path:
        """Where the model of a step is."""

    def save(self, step: int, state: TrainState) -> None:
        """Start writing the model of `state`; returns when its arrays may change."""

    def mend(self, step: int, state: TrainState) -> None:
        """Write the model of a restored state again where a kill came between the state and the model."""

    def close(self) -> None:
        """Wait until everything is on disk."""


def weights_of(run: Run) -> Weights:
    directory = run.output_dir / "weights"
    lora = run.step.lora
    return Adapters(directory, run, lora) if lora else Models(directory, run.model, run.template_name)


class Models:
    """A directory is complete when `params/` appears in it."""

    def __init__(self, root: epath.Path, source: StoredModel, template: str | None):
        self.root, self.source, self.template = root, source, template
        self.checkpointer = make_checkpointer()
        self.narrow = jax.jit(lambda params, frozen: cast(join(params, frozen), jnp.bfloat16))

    def directory(self, step: int) -> epath.Path:
        return self.root / str(step)

    def save(self, step: int, state: TrainState) -> None:
        self.checkpointer.wait_until_finished()
        if parallel.is_main():
            self.source.save_assets(self.directory(step), self.template)
        save_params(self.directory(step), self.narrow(state.params, state.frozen), self.checkpointer)

    def mend(self, step: int, state: TrainState) -> None:
        if not is_complete(self.directory(step)):
            self.save(step, state)

    def close(self) -> None:
        self.checkpointer.wait_until_finished()
        self.checkpointer.close()


class Adapters:
    """Small enough to be written at once."""

    def __init__(self, root: epath.Path, run: Run, lora: Lora):
        self.root, self.run, self.lora = root, run, lora
        everywhere = parallel.replicated(run.mesh)
        self.gather: Any = jax.jit(lambda params: cast(params, run.step.dtype), out_shardings=everywhere)

    def directory(self, step: int) -> epath.Path:
        return self.root / str(step)

    def save(self, step: int, state: TrainState) -> None:
        params = {path: np.asarray(leaf) for path, leaf in flat(self.gather(state.params)).items()}
        if parallel.is_main():
            path, base = self.directory(step), self.run.config.model.path
            base = os.path.abspath(base) if os.path.exists(base) else base
            tower = self.run.config.model.vision_path
            tower = os.path.abspath(tower) if os.path.exists(tower) else tower
            adapter_files.write_adapter(path, params, self.run.model, self.lora, base, self.run.template_name, tower)

    def mend(self, step: int, state: TrainState) -> None:
        missing = np.array(not adapter_files.is_complete(self.directory(step)))
        if multihost_utils.broadcast_one_to_all(missing):  # `save` takes all processes
            self.save(step, state)

    def close(self) -> None:
        pass
