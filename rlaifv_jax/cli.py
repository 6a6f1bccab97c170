"""What every command does with an error that a person can mend."""

import sys
from collections.abc import Callable
from typing import Any

from rlaifv_jax.errors import UserError


def guard(command: Callable[[], Any]) -> int:
    """Run `command`; a `UserError` becomes one line on stderr and exit status 2, Ctrl-C status 130.

    Returns the status for `sys.exit`; any other exception passes through with its traceback.
    """
    try:
        command()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
