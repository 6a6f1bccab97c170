"""The models of a run under OUTPUT_DIR/weights/STEP, one for every planned checkpoint, each a model.path like others.

    a model          in bfloat16, with config and tokenizer
    or adapters      where no more is trained: adapters and projector in compute precision, as PEFT keeps them

Which of the two follows from the run.
"""

from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from jax.experimental import multihost_utils

from convert import adapter_files
from convert.load import StoredModel
from convert.orbax_dir import is_complete, make_checkpointer, save_params
from rlaifv_jax import parallel
from rlaifv_jax.checkpoint import writing
from rlaifv_jax.models.blueprint import cast, flat, join
from rlaifv_jax.models.lora import Lora
from rlaifv_jax.prepare import Run
from rlaifv_jax.step import TrainState


class Weights(ABC):
    """Of all steps, under `root`."""

    def __init__(self, root: epath.Path):
        self.root = root

    def directory(self, step: int) -> epath.Path:
        """Where the model of a step is."""
        return self.root / str(step)

    def mend(self, step: int, state: TrainState) -> None:
        """Write the model of a restored state again where a kill came between the state and the model."""
        missing = np.array(not self.is_complete(self.directory(step)))
        if multihost_utils.broadcast_one_to_all(missing):  # `save` takes all processes
            self.save(step, state)

    @abstractmethod
    def is_complete(self, directory: epath.Path) -> bool:
        """Whether the model there was written to its end."""

    @abstractmethod
    def save(self, step: int, state: TrainState) -> None:
        """Start writing the model of `state`; returns when its arrays may change."""

    @abstractmethod
    def close(self) -> None:
        """Wait until everything is on disk."""


def weights_of(run: Run) -> Weights:
    directory = run.output_dir / "weights"
    lora = run.step.lora
    return Adapters(directory, run, lora) if lora else Models(directory, run.model, run.template_name)


class Models(Weights):
    """A directory is complete when `params/` appears in it."""

    def __init__(self, root: epath.Path, source: StoredModel, template: str | None):
        super().__init__(root)
        self.source, self.template = source, template
        self.checkpointer = make_checkpointer()
        self.narrow = jax.jit(lambda params, frozen: cast(join(params, frozen), jnp.bfloat16))

    def is_complete(self, directory: epath.Path) -> bool:
        return is_complete(directory)

    def save(self, step: int, state: TrainState) -> None:
        with writing(self.root):
            self.checkpointer.wait_until_finished()
            if parallel.is_main():
                self.source.save_assets(self.directory(step), self.template)
            save_params(self.directory(step), self.narrow(state.params, state.frozen), self.checkpointer)

    def close(self) -> None:
        with writing(self.root):
            self.checkpointer.wait_until_finished()
            self.checkpointer.close()


class Adapters(Weights):
    """Small enough to be written at once."""

    def __init__(self, root: epath.Path, run: Run, lora: Lora):
        super().__init__(root)
        self.run, self.lora = run, lora
        everywhere = parallel.replicated(run.mesh)
        self.gather: Any = jax.jit(lambda params: cast(params, run.step.dtype), out_shardings=everywhere)

    def is_complete(self, directory: epath.Path) -> bool:
        return adapter_files.is_complete(directory)

    def save(self, step: int, state: TrainState) -> None:
        params = {path: np.asarray(leaf) for path, leaf in flat(self.gather(state.params)).items()}
        if parallel.is_main():
            run, model = self.run, self.run.config.model
            adapter_files.write_adapter(
                self.directory(step), params, run.model, self.lora, model.path, run.template_name, model.vision_path
            )

    def close(self) -> None:
        pass
