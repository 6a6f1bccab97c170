"""The error that a person caused and can mend."""


class UserError(Exception):
    """Bad input or a bad setting. The message is one line: what, where, and what to do.

    Commands print it without a traceback and exit with status 2 (see `rlaifv_jax.cli`).
    """
