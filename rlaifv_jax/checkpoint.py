"""Checkpoints of a run: everything needed to go on bit for bit, written in the background.

    OUTPUT_DIR/checkpoints/STEP/   state (master weights, frozen weights, optimizer, step) and meta (JSON)

The newest `keep` states stay; of older steps only the weights remain (rlaifv_jax.weights). With adapters the frozen
weights, nearly all there are, are not kept again: they come from model.path, which must still be what it was.

What is damaged is known by sums of the arrays (rlaifv_jax.array_sums) and a seal on the JSON. It is moved to
OUTPUT_DIR/damaged, and the checkpoint before it is taken.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax.experimental import multihost_utils

from configs import base
from rlaifv_jax import places
from rlaifv_jax.array_sums import array_sums
from rlaifv_jax.cli import say
from rlaifv_jax.config_keys import check_config, flat_config
from rlaifv_jax.errors import Unreachable, UserError
from rlaifv_jax.parallel import is_main
from rlaifv_jax.starting_model import StartingModel
from rlaifv_jax.step import TrainState
from rlaifv_jax.versions import versions

TRAINED = ("train.vision", "train.projector", "lora.rank", "lora.targets", "lora.base")  # decide what is trained
LIBRARIES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")  # whose versions are noted
T = TypeVar("T")


class Damaged(Exception):
    """A checkpoint that is not what was written."""


class Checkpoints:
    """The states of a run under `output_dir`/checkpoints. `data`: fingerprint of the training data."""

    def __init__(self, output_dir: epath.Path, config: Any, data: str, mesh: jax.sharding.Mesh):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=config.checkpoint.keep, enable_async_checkpointing=True, cleanup_tmp_directories=True
        )
        self.config, self.data, self.mesh = config.to_dict(), data, mesh
        self.frozen_apart = config.lora.rank > 0
        self.directory = output_dir / "checkpoints"
        with writing(self.directory):
            self.manager = ocp.CheckpointManager(self.directory, options=options, item_names=("state", "meta"))
        self.damaged: dict[int, str] = {}  # steps, and what is wrong with them

    def latest(self) -> int | None:
        """Step of the newest complete state whose description is whole, if there is one.

        Raises:
          UserError: it belongs to a run with another config, and resume.allow_changed is not set; or all are damaged.
        """
        newest = self._newest(self.meta)
        if newest is None:
            return None
        step, meta = newest
        # Keys that a run of long ago does not have were what they are by default.
        before = flat_config(base.get_config()) | flat_config(meta["config"])
        self._check_trained(before, flat_config(self.config))
        if not self.config["resume"]["allow_changed"]:
            check_config(before, self.config, self.directory.parent)
            if meta.get("data") != self.data:
                raise UserError(
                    f"{self.directory.parent} holds a run on other data: {self.config['data']['path']} has changed "
                    "since. Choose another output_dir, or go on all the same with --config.resume.allow_changed."
                )
        return step

    def _newest(self, read: Callable[[int], T]) -> tuple[int, T] | None:
        """(step, read(step)) of the newest checkpoint that no process finds damaged; None where there are none.

        Raises:
          UserError: there are some, and all are damaged.
        """
        steps = sorted(self.manager.all_steps(), reverse=True)
        for step in steps:
            if step in self.damaged:
                continue
            reason = ""
            try:
                value = read(step)
            except Damaged as error:
                reason = first_line(error)
            if not self._anywhere(bool(reason)):
                return step, value
            self.damaged[step] = reason or "another process could not read it"
            if reason and is_main():
                say(f"warning: checkpoint {self.directory / str(step)} is damaged ({reason}); trying the one before it")
        if not steps:
            return None
        reasons = "; ".join(f"{step}: {reason}" for step, reason in sorted(self.damaged.items()))
        raise UserError(
            f"{self.directory}: no checkpoint can be read ({reasons}). Start from one of the models of the run "
            "(model.path=…/weights/STEP) in another output_dir, or delete that directory to begin anew"
        )

    def _anywhere(self, here: bool) -> bool:
        return bool(np.any(multihost_utils.process_allgather(np.array(here))))

    def _check_trained(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Optimizer states exist of what is trained alone."""
        adapters = before["lora.rank"] or after["lora.rank"]
        for key in TRAINED:
            was, now = before[key], after[key]
            if was != now and (adapters or not key.startswith("lora.")):
                raise UserError(
                    f"{self.directory.parent} holds a run with {key}={was}, now {now}: its optimizer state is of other "
                    "parameters. Start from one of its models (model.path=…/weights/STEP) in another output_dir."
                )

    def save(self, step: int, state: TrainState, model: str) -> None:
        """Start writing; returns when the arrays may change, not when they are on disk.

        Beside the state goes a JSON object: the resolved config, fingerprints of the starting model and of the data,
        and the versions of the libraries. The step is the data position and, with the config's seed, the state of all
        randomness there is.
        """
        if self.frozen_apart:
            state = state._replace(frozen={})
        meta = {
            "step": step,
            "config": self.config,
            "model": model,
            "data": self.data,
            "versions": versions(LIBRARIES),
            "sums": array_sums(state, self.mesh),
        }
        with writing(self.directory):
            self.manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave({**meta, "seal": seal(meta)})
                ),
            )

    def meta(self, step: int) -> dict[str, Any]:
        """What was written beside a state.

        Raises:
          Damaged: it cannot be read, or is not what was written.
        """
        meta = self._read(step, "meta", ocp.JsonCheckpointHandler(), ocp.args.JsonRestore())
        sealed = isinstance(meta, dict) and meta.pop("seal", None)
        # Runs of earlier versions have neither.
        if not isinstance(meta, dict) or sealed != (seal(meta) if sealed or "sums" in meta else None):
            raise Damaged("its description is not what was written")
        return meta

    def model_name(self, step: int | None) -> str | None:
        """Fingerprint of the model that the run of this state began with."""
        return None if step is None else self.meta(step)["model"]

    def restore(self, abstract: TrainState, model: StartingModel) -> tuple[int, TrainState]:
        """The newest state that is whole, and its step, laid out as `abstract` says (shapes, dtypes and shardings).

        model: that which the run began with; it is taken, or forgotten.

        Raises:
          UserError: none is.
        """
        frozen: Any = None
        if self.frozen_apart:
            _, frozen = model.take()
            abstract = abstract._replace(frozen={})
        else:
            model.forget()
        newest = self._newest(lambda step: self._state(step, abstract))
        assert newest is not None  # `latest` has seen one
        self._put_aside()
        step, state = newest
        if is_main():
            say(f"going on from step {step} in {self.directory}")
        return step, state._replace(frozen=frozen) if self.frozen_apart else state

    def _state(self, step: int, abstract: TrainState) -> TrainState:
        failure: Damaged | None = None
        try:
            meta = self.meta(step)
            # Not by the manager, which would have processes that can read wait for one that cannot.
            state = self._read(step, "state", ocp.StandardCheckpointHandler(), ocp.args.StandardRestore(abstract))
        except Damaged as error:
            failure = error
        if self._anywhere(failure is not None):
            raise failure or Damaged("another process could not read it")
        found, written = array_sums(state, self.mesh), meta.get("sums")
        wrong = [path for path in found if written is not None and found[path] != written.get(path)]
        if wrong:
            raise Damaged(f"the values of {wrong[0]} are not what was written; {len(wrong)} such arrays")
        return state

    def _read(self, step: int, item: str, handler: Any, args: Any) -> Any:
        try:
            return handler.restore(self.directory / str(step) / item, args=args)
        except Exception as error:  # Orbax and TensorStore raise anything on damaged files
            raise Damaged(first_line(error)) from None

    def _put_aside(self) -> None:
        """Move what is damaged out of the way, or it could not be written anew."""
        if not self.damaged:
            return
        if is_main():
            for step in self.damaged:
                target = self.directory.parent / "damaged" / str(step)
                target.parent.mkdir(exist_ok=True)
                while target.exists():
                    target = target.with_name(target.name + "-again")
                (self.directory / str(step)).rename(target)
        multihost_utils.sync_global_devices("damaged checkpoints are put aside")
        self.manager.reload()

    def check(self) -> None:
        """Raise `UserError` if what is written in the background has failed; costs nothing."""
        with writing(self.directory):
            self.manager.check_for_errors()

    def close(self) -> None:
        """Wait until everything is on disk."""
        with writing(self.directory):
            self.manager.wait_until_finished()
            self.manager.close()


@contextlib.contextmanager
def writing(what: epath.Path) -> Iterator[None]:
    """Around the writing of a checkpoint or a model: one line instead of whatever Orbax and TensorStore raise.

    Raises:
      UserError: it failed.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) or "RESOURCE_EXHAUSTED: Out of memory" in str(error):
            raise
        reason = re.search(r'([^":]+) \[os_error_code', str(error))  # TensorStore has it somewhere in a long story
        kind = Unreachable if isinstance(places.fault(error), Unreachable) else UserError
        raise kind(
            f"{what}: could not be written ({reason[1].strip() if reason else first_line(error)}). What was finished "
            "before is whole: mend that and start the same command again to go on from the newest checkpoint"
        ) from None


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its name."""
    return next((line.strip()[:200] for line in str(error).splitlines() if line.strip()), type(error).__name__)


def seal(meta: dict[str, Any]) -> str:
    """A hash of a JSON object."""
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
