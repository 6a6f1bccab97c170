"""The error that a person caused and can mend."""


class UserError(Exception):
    """Bad input or a bad setting. The message is one line: what, where, and what to do.

    Commands print it without a traceback and exit with status 2 (see `rlaifv_jax.cli`).
    """


def shortened(text: str) -> str:
    """A value's text as a message can hold it: 60 characters at most."""
    return text if len(text) <= 60 else text[:57] + "…"
