"""The error that a person caused and can mend, and an end that somebody asked for."""


class UserError(Exception):
    """Bad input or a bad setting. The message is one line: what, where, and what to do.

    Commands print it without a traceback and exit with status 2 (see `rlaifv_jax.cli`).
    """

    exit_status = 2


class Unreachable(UserError):
    """Nobody's mistake: a network or a service that is gone for a while. The same command may succeed later."""

    exit_status = 75  # EX_TEMPFAIL of sysexits.h


class Stopped(Exception):
    """The run was asked to end and has, in order. Its message is one line, empty in all processes of a job but the
    first. status: to exit with."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


def shortened(text: str) -> str:
    """A value's text as a message can hold it: 60 characters at most."""
    return text if len(text) <= 60 else text[:57] + "…"
