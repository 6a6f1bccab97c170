"""Checkpoints of a run: everything needed to go on bit for bit, written in the background.

    OUTPUT_DIR/checkpoints/STEP/   state (master weights, frozen weights, optimizer, step) and meta (JSON)

The newest `keep` states stay; of older steps only the weights remain (rlaifv_jax.weights). With adapters the frozen
weights, nearly all there are, are not kept again: they come from model.path, which must still be what it was.
"""

from importlib import metadata
from typing import Any

import orbax.checkpoint as ocp
from etils import epath

from configs import base
from rlaifv_jax.cli import say
from rlaifv_jax.errors import UserError
from rlaifv_jax.parallel import is_main
from rlaifv_jax.starting_model import StartingModel
from rlaifv_jax.step import TrainState

TRAINED = ("train.vision", "train.projector", "lora.rank", "lora.targets", "lora.base")  # decide what is trained
# Keys that may differ between a run and its continuation: they change no result beyond rounding and, where the rows of
# a batch become others, what the dropout of adapters drops.
FREE_KEYS = (
    "output_dir",
    "data.workers",
    "train.log_every",
    "train.eval_every",
    "train.remat",
    "checkpoint.",
    "resume.",
    "reference.trust",
    "reference.shard_rows",
    "mesh.",
    "attention.",
    "train.pairs_per_row",
    "train.longest_row",
    "train.vocab_block",
    "wandb.",
)


class Checkpoints:
    """The states of a run under `output_dir`/checkpoints. `data`: fingerprint of the training data."""

    def __init__(self, output_dir: epath.Path, config: Any, data: str):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=config.checkpoint.keep, enable_async_checkpointing=True, cleanup_tmp_directories=True
        )
        self.config, self.data = config.to_dict(), data
        self.frozen_apart = config.lora.rank > 0
        self.directory = output_dir / "checkpoints"
        self.manager = ocp.CheckpointManager(self.directory, options=options, item_names=("state", "meta"))

    def latest(self) -> int | None:
        """Step of the newest complete state, if there is one.

        Raises:
          UserError: it belongs to a run with another config, and resume.allow_changed is not set.
        """
        step = self.manager.latest_step()
        if step is None:
            return None
        meta = self.meta(step)
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
        if is_main():
            say(f"going on from step {step} in {self.directory}")
        return step

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
        meta = {"step": step, "config": self.config, "model": model, "data": self.data, "versions": versions()}
        if self.frozen_apart:
            state = state._replace(frozen={})
        self.manager.save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        )

    def meta(self, step: int) -> dict[str, Any]:
        return self._read(step, meta=ocp.args.JsonRestore())["meta"]

    def model_name(self, step: int | None) -> str | None:
        """Fingerprint of the model that the run of this state began with."""
        return None if step is None else self.meta(step)["model"]

    def restore(self, step: int, abstract: TrainState, model: StartingModel) -> TrainState:
        """The state of `step`, laid out as `abstract` says (shapes, dtypes and shardings).

        model: that which the run began with; it is taken, or forgotten.
        """
        if not self.frozen_apart:
            model.forget()
            return self._read(step, state=ocp.args.StandardRestore(abstract))["state"]
        _, frozen = model.take()
        state = self._read(step, state=ocp.args.StandardRestore(abstract._replace(frozen={})))["state"]
        return state._replace(frozen=frozen)

    def _read(self, step: int, **items: Any) -> Any:
        try:
            return self.manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax and TensorStore raise anything on damaged files
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise UserError(
                f"{self.directory / str(step)} cannot be read ({reason[:200]}); delete that directory to go on from "
                "the checkpoint before it, or from the beginning"
            ) from None

    def close(self) -> None:
        """Wait until everything is on disk."""
        self.manager.wait_until_finished()
        self.manager.close()


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy")}


def flat_config(config: Any, prefix: str = "") -> dict[str, Any]:
    """{'train.steps': 100, …} from a nested mapping."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        value = list(value) if isinstance(value, tuple) else value  # what JSON makes of it
        leaves |= flat_config(value, f"{prefix}{key}.") if hasattr(value, "items") else {prefix + key: value}
    return leaves


def check_config(
    old: dict[str, Any],
    new: dict[str, Any],
    where: Any,
    free: tuple[str, ...] = FREE_KEYS,
    way_out: str = "Choose another output_dir, or go on all the same with --config.resume.allow_changed.",
) -> None:
    """Refuse to go on with a run under another config.

    Args:
      free: beginnings of keys that may differ. way_out: what the user can do.

    Raises:
      UserError: names every key that differs and matters, and the way out.
    """
    before, after = flat_config(old), flat_config(new)
    changed = [
        f"{key} (was {before.get(key)!r}, now {after.get(key)!r})"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not key.startswith(free)
    ]
    if changed:
        raise UserError(f"{where} holds a run with another config: {', '.join(changed)}. {way_out}")
