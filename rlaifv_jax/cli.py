"""What every command shares: help that costs nothing, config files with overrides, errors in one line."""

import errno
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rlaifv_jax.data.ahead import READING_AHEAD
from rlaifv_jax.errors import Stopped, UserError

STOPPED = 130  # exit status after Ctrl-C


def say(message: str) -> None:
    """One line for the person at the terminal, above progress bars; standard output stays free for results."""
    bars = sys.modules.get("tqdm")
    if bars:
        bars.tqdm.write(message, file=sys.stderr)
    else:
        print(message, file=sys.stderr)
    sys.stderr.flush()


def guard(command: Callable[[], Any]) -> int:
    """Run `command`; a `UserError` becomes one line on stderr and exit status 2, Ctrl-C status 130.

    Returns the status for `sys.exit`; any other exception passes through with its traceback. After Ctrl-C the process
    is gone at once if threads are left that wait, perhaps for a server. So is a process of several that fails: JAX
    would have it wait for the others first, and these wait for it.
    """
    status = _status(command)
    jax = sys.modules.get("jax")
    if status and jax is not None and jax.distributed.is_initialized():
        _leave(status)
    return status


def guard_status(command: Callable[[], int]) -> int:
    """The same for a command that has a status of its own."""
    status = 0

    def run() -> None:
        nonlocal status
        status = command()

    return guard(run) or status


def _leave(status: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _status(command: Callable[[], Any]) -> int:
    try:
        command()
    except UserError as error:
        return _tell(error)
    except Stopped as end:
        if str(end):
            say(str(end))
        return end.status
    except BrokenPipeError:  # who read our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            return _tell_of_cloud(error)
        say(f"error: {error}. What was written before is whole; make room and start the same command again.")
        return 2
    except RuntimeError as error:  # JaxRuntimeError, without loading JAX for its name
        if "RESOURCE_EXHAUSTED" not in str(error):
            return _tell_of_cloud(error)
        reason = str(error).strip().splitlines()[0]
        say(f"error: the devices have no memory left ({reason}); ask for less at once, see --help")
        return 2
    except KeyboardInterrupt:
        say("stopped. Start the same command again to go on behind what is finished.")
        # Here: once the exception is forgotten, the generators that it holds wait for their threads.
        if any(thread.name.startswith(READING_AHEAD) for thread in threading.enumerate()):
            _leave(STOPPED)
        return STOPPED
    except Exception as error:
        return _tell_of_cloud(error)
    return 0


def _tell(error: UserError) -> int:
    say(f"error: {' '.join(str(error).split())}")
    return error.exit_status


def _tell_of_cloud(error: Exception) -> int:
    """What gcsfs and TensorStore raise of a bucket in one line; anything else passes through with its traceback."""
    places = sys.modules.get("rlaifv_jax.places")
    told = places.fault(error) if places else None
    if told is None:
        raise error
    return _tell(told)


def _keys(base: str) -> str:
    """What a file in configs/ says of its keys, those of configs that it holds included."""
    text = (Path(__file__).parent.parent / "configs" / base).read_text()
    keys = text.split("config = ConfigDict()\n", 1)[1].rsplit("    return config", 1)[0].rstrip()
    held = re.compile(r"^ *config\.(\w+) = (\w+)\.get_config\(\).*$", re.MULTILINE)
    return held.sub(lambda found: re.sub(r"\bconfig(?=[.\[])", f"config.{found[1]}", _keys(f"{found[2]}.py")), keys)


def config_command(
    run: Callable[..., None],
    doc: str,
    define_flags: Callable[[], None] | None = None,
    *,
    base: str = "base.py",
    stages: Sequence[str] = (),
    example: str = "configs/llava15.py",
) -> None:
    """Entry point of a command that takes `--config=FILE.py[:argument] [--config.key=value …]`.

    Every key must exist in the config file's defaults, so a misspelt one is refused. `--help` prints the
    command's docstring and the commented defaults of `base`.

    Args:
      run: called with the config, and before it with the stage where there are stages.
      define_flags: defines what else the command takes, with absl.
      base: file in configs/ with all keys. stages: words of which the command needs one. example: of a config.
    """
    if {"-h", "--help", "--helpfull"} & set(sys.argv[1:]):
        print(f"{doc.strip()}\n\nKeys and their defaults (configs/{base}):\n\n{_keys(base)}")
        return

    from absl import app, flags, logging
    from ml_collections import config_flags

    logging.set_verbosity(logging.WARNING)  # Orbax tells every step of every write; --verbosity=0 shows it

    if define_flags:
        define_flags()
    flag = config_flags.DEFINE_config_file("config", None, f"experiment, e.g. {example}", lock_config=True)

    def start(argv: list[str]) -> None:
        words = argv[1:]
        if stages and (not words or words[0] not in stages):
            raise UserError(f"which stage? Say one of {', '.join(stages)}.")
        if spare := words[1:] if stages else words:
            raise UserError(f"what is {spare[0]!r}? Give settings as --config.key=value.")
        try:
            config = flag.value
            list(config or ())  # a file that could not be loaded raises at the first touch
        except OSError as error:
            raise UserError(f"--config: {str(error).splitlines()[-1].strip()}; check the path") from None
        if config is None:
            raise UserError("which experiment? Give --config=configs/NAME.py, or --help for all keys.")
        run(*words, config)

    def parse(argv: list[str]) -> list[str]:
        own = [f"--{name.replace('_', '-')}" for name in flags.FLAGS]  # --dry-run is --dry_run
        argv = [word.replace("-", "_").replace("__", "--", 1) if word in own else word for word in argv]
        try:
            return flags.FLAGS(argv)
        except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
            reason = " ".join(str(error).replace("\\n", " ").replace("\\'", "'").split())
            # A config file that raises is told with its traceback, whose last line says why.
            reason = re.sub(r"Error whilst parsing config file: .*? \w*(?:Error|Exception): ", "", reason)
            say(f"error: {reason.strip(chr(34))}: see --help for all keys")
            raise SystemExit(2) from None

    app.run(lambda argv: guard(lambda: start(argv)), flags_parser=parse)
