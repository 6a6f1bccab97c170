"""Keys of a config by their whole names, and whether two configs are of one run."""

from typing import Any

from rlaifv_jax.errors import UserError

# Keys that may differ between a run and its continuation: they change no result beyond rounding and, where the rows of
# a batch become others, what the dropout of adapters drops.
FREE_KEYS = (
    "output_dir",
    "data.workers",
    "train.log_every",
    "train.eval_every",
    "train.remat",
    "checkpoint.",
    "guard.",
    "profile.",
    "compile_cache",
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
