"""From a path to the set that it names."""

import glob
import os

from rlaifv_jax.data.tables import HUB_ID
from rlaifv_jax.errors import UserError
from rlaifv_jax.places import is_remote
from rlaifv_jax.view.entry import Set
from rlaifv_jax.view.feedback import FeedbackSet, is_feedback
from rlaifv_jax.view.table import TableSet


def open_set(path: str, images: str | None = None) -> Set:
    """images: folder below which pictures may lie, beside `path`.

    Raises `UserError` where there is nothing that can be shown.
    """
    if images is not None and not is_remote(images) and not os.path.isdir(images):
        raise UserError(f"--images: {images} is no folder; give one that is there")
    if is_feedback(path):
        return FeedbackSet(path, images)
    if HUB_ID.fullmatch(path) and not os.path.exists(path) and not path.endswith((".parquet", ".json", ".jsonl")):
        raise UserError(
            f"there is no {path}; a dataset of the hub is downloaded first: hf download --repo-type dataset {path}"
        )
    if not (is_remote(path) or os.path.exists(path) or glob.has_magic(path)):
        raise UserError(
            f"there is no {path}; give pairs (Parquet, JSONL, a directory or glob of it) or the output_dir of "
            "rlaifv_jax.feedback, which of rounds is their round_1, round_2, …"
        )
    return TableSet(path, images)
