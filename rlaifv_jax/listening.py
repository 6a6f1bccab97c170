"""Where pages and servers listen."""

import socket

BACKLOG = 2048  # connections that nobody has taken yet, as uvicorn has it
AT_HOME = ("127.0.0.1", "localhost", "::1")


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens at this address: who comes before it is served waits. port: 0 for any that is free.

    Raises:
      OSError: there is no such address, or it is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (UnicodeError, OverflowError) as error:
        raise OSError(str(error)) from None
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen(BACKLOG)  # two can be bound to one port, where neither listens
    except OSError:
        found.close()
        raise
    except OverflowError as error:  # a port beyond 65535
        found.close()
        raise OSError(str(error)) from None
    return found


def url(host: str, listener: socket.socket) -> str:
    """http://HOST:PORT of a bound socket."""
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
