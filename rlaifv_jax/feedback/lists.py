"""Lists of sentences, by whoever makes them: what divide and question have in common."""

from collections.abc import Sequence
from typing import Any

from rlaifv_jax.feedback import bullets
from rlaifv_jax.feedback.fields import Record
from rlaifv_jax.feedback.functions import Named
from rlaifv_jax.feedback.writers import Writer, Written


def settings_of(by: Writer | Named) -> dict[str, Any]:
    if isinstance(by, Named):
        return {"function": by.name, "source": by.fingerprint}
    return dict(by.settings)


def listed(written: Written, raw: str, items: str, *, legacy: bool) -> Record:
    """Fields of a record for a list that was written."""
    if written.error is not None:
        return {raw: "", items: [], "error": written.error}
    read = (
        bullets.read_bullets_legacy(written.text)
        if legacy
        else bullets.read_bullets(written.text, complete=written.complete)
    )
    return {raw: written.text, items: read} | ({} if written.complete else {f"{raw}_cut": True})


def as_bullets(items: Sequence[str]) -> str:
    """A list as a language model would have written it."""
    return "\n".join(f"- {item}" for item in items)
