"""Look through preference pairs in a browser.

    python -m rlaifv_jax.view pairs.parquet
    python -m rlaifv_jax.view data/ --images photos/
    python -m rlaifv_jax.view out/feedback

PATH is what training reads (Parquet, a directory or glob of it, JSONL, in any form), or the directory of
rlaifv_jax.feedback: then every two answers to a question are shown, with their claims, and why they became a pair or
did not. Search, filters and order stand in the address, and so does every pair. Large sets are read as far as a page
needs.

Keys: j and k go on and back, / searches, left and right turn pages of the list, and of a pair go to its neighbours.
"""

import argparse
import contextlib
import socket
import sys

from rlaifv_jax import cli
from rlaifv_jax.errors import UserError
from rlaifv_jax.listening import AT_HOME, bound, url
from rlaifv_jax.places import refused


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rlaifv_jax.view",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", metavar="PATH", help="file, directory or glob")
    parser.add_argument("--images", metavar="DIR", help="read pictures from below this folder, too")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=0, help="0 takes any that is free (default)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    return parser.parse_args(arguments)


def command(given: argparse.Namespace) -> None:
    """Serve until Ctrl-C. Raises `UserError`."""
    try:
        import uvicorn

        from rlaifv_jax.view.app import create_app
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; pip install 'rlaifv-jax[view]'") from None
    from rlaifv_jax.view.opened import open_set

    of = open_set(given.path, given.images)
    listening = _listen(given.host, given.port)
    with listening:
        address = f"{url(given.host, listening)}/"
        if given.host not in AT_HOME:
            cli.say(f"warning: whoever can reach {given.host} can see these data")
        cli.say(f"{of.name}: {of.kind}. {address} (Ctrl-C ends it)")
        if not given.no_browser:
            import webbrowser

            webbrowser.open(address)
        app = create_app(of, (given.host, socket.gethostname()))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=2))
        with contextlib.suppress(KeyboardInterrupt):  # often raised again once all is closed
            server.run(sockets=[listening])
        cli.say("ended")


def _listen(host: str, port: int) -> socket.socket:
    """Raises `UserError` where that cannot be."""
    if not 0 <= port < 2**16:
        raise UserError(f"--port is {port}; it must lie in 0 … 65535")
    try:
        return bound(host, port)
    except OSError as error:
        raise refused(f"cannot listen on {host}, port {port}", error, "choose another --port") from None


def main() -> None:
    """Entry of the console script `rlaifv-view`."""
    given = parse_arguments(sys.argv[1:])
    sys.exit(cli.guard(lambda: command(given)))


if __name__ == "__main__":
    main()
