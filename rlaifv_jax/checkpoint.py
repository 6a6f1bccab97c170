"""Checkpoints of a run: everything needed to go on bit for bit, written in the background.

    OUTPUT_DIR/checkpoints/STEP/   state (master weights, frozen weights, optimizer, step) and meta (JSON)
    OUTPUT_DIR/weights/STEP/       the model alone in bfloat16, with config and tokenizer: usable as --model

The newest `keep` states stay; of older steps only the weights remain.
"""

from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from rlaifv_jax.errors import UserError
from rlaifv_jax.step import TrainState

# Keys that may differ between a run and its continuation: they change no result beyond rounding.
FREE_KEYS = (
    "output_dir",
    "data.workers",
    "train.log_every",
    "train.remat",
    "checkpoint.",
    "resume.",
    "reference.trust",
    "reference.shard_rows",
    "mesh.",
    "wandb.",
)


class Checkpoints:
    """The states of a run under `directory`/checkpoints."""

    def __init__(self, directory: epath.Path, keep: int):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        self.directory = directory / "checkpoints"
        self.manager = ocp.CheckpointManager(self.directory, options=options, item_names=("state", "meta"))

    def latest(self) -> int | None:
        """Step of the newest complete state, if there is one."""
        return self.manager.latest_step()

    def save(self, step: int, state: TrainState, meta: dict[str, Any]) -> None:
        """Start writing; returns when the arrays are copied off the devices, not when they are on disk."""
        self.manager.save(
            step, args=ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
        )

    def meta(self, step: int) -> dict[str, Any]:
        return self.manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]

    def restore(self, step: int, abstract: TrainState) -> TrainState:
        """The state of `step`, laid out as `abstract` says (shapes, dtypes and shardings)."""
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract))
        state = self.manager.restore(step, args=args)["state"]
        return jax.block_until_ready(state)

    def close(self) -> None:
        """Wait until everything is on disk."""
        self.manager.wait_until_finished()
        self.manager.close()


def flat_config(config: Any, prefix: str = "") -> dict[str, Any]:
    """{'train.steps': 100, …} from a nested mapping."""
    leaves: dict[str, Any] = {}
    for key, value in config.items():
        leaves |= flat_config(value, f"{prefix}{key}.") if hasattr(value, "items") else {prefix + key: value}
    return leaves


def check_config(old: dict[str, Any], new: dict[str, Any], where: Any) -> None:
    """Refuse to go on with a run under another config.

    Raises:
      UserError: names every key that differs and matters, and the switch that allows it.
    """
    before, after = flat_config(old), flat_config(new)
    changed = [
        f"{key} (was {before.get(key)!r}, now {after.get(key)!r})"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not key.startswith(FREE_KEYS)
    ]
    if changed:
        raise UserError(
            f"{where} holds a run with another config: {', '.join(changed)}. "
            "Choose another output_dir, or go on all the same with --config.resume.allow_changed."
        )
