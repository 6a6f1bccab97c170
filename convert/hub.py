"""A local directory for whatever a person calls a model."""

import os
from pathlib import Path
from typing import Any

from convert.adapters import OTHERS
from rlaifv_jax.data.tables import HUB_ID
from rlaifv_jax.errors import UserError
from rlaifv_jax.places import is_remote

SMALL = ["*.json", "*.model", "*.txt", "*.jinja", "*.py", OTHERS]


def local_directory(path: Any, key: str) -> Path:
    """`path` itself when it is a directory, else a snapshot of the hub repository of that name.

    key: the setting the path came from, for messages.

    Raises:
      UserError: neither here nor to be had from the hub.
    """
    if is_remote(path):
        raise UserError(
            f"{key}: {path} holds no model of this project, and no other can be read in the cloud; write it there by "
            f"python -m convert import MODEL {path}"
        )
    directory = Path(path)
    if os.path.isdir(directory):
        return directory
    if os.path.exists(directory) or not HUB_ID.fullmatch(str(path)):
        raise UserError(f"{key}: {path} is neither a directory nor a hub id (owner/name)")
    from huggingface_hub import HfApi, snapshot_download

    try:
        weights = ["*.safetensors"]
        try:
            files = HfApi().list_repo_files(str(path))
            weights = weights if any(file.endswith(".safetensors") for file in files) else ["*.bin"]
        except Exception:  # without a network there may still be a copy in the cache
            return Path(snapshot_download(str(path), local_files_only=True))
        return Path(snapshot_download(str(path), allow_patterns=[*SMALL, *weights]))
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{key}: {path} is no directory here, and the hub does not give it: {reason}") from None
