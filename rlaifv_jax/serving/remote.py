"""Pictures from the web, for a server that must not be led into its own network.

A name is resolved once, every address it has must be a public one, and the connection goes to one of just these: a name
that changes its address in between changes nothing. Each redirect is looked at in the same way.
"""

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import SplitResult, urljoin, urlsplit

REDIRECTS = 3
CHUNK = 1 << 16
SLOW = 5.0  # seconds for a step of a connection
DOCUMENTATION = ipaddress.ip_network("3fff::/20")  # RFC 9637, which older versions of Python do not know


class Halt:
    """Called, it ends what another thread waits for, now and later."""

    def __init__(self) -> None:
        self._over, self._lock = False, threading.Lock()
        self._end: Callable[[], None] | None = None

    def __call__(self) -> None:
        with self._lock:
            self._over = True
            if self._end:
                self._end()

    @contextmanager
    def by(self, end: Callable[[], None]) -> Iterator[None]:
        """How that is done in here."""
        with self._lock:
            if self._over:
                raise ValueError("nobody waits for the picture any more")
            self._end = end
        try:
            yield
        finally:
            with self._lock:
                self._end = None


def fetch(url: str, most: int, seconds: float, halt: Halt) -> bytes:
    """Up to `most` bytes within `seconds`, until `halt`. Raises ValueError, with a message for the client."""
    deadline = time.monotonic() + seconds
    for _ in range(1 + REDIRECTS):
        found = _ask(url, most, deadline, halt)
        if isinstance(found, bytes):
            return found
        url = urljoin(url, found)
    raise ValueError("the URL redirects too often")


def public_addresses(host: str, port: int) -> list[str]:
    """All addresses of a host. Raises ValueError where one of them is not public."""
    try:
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError):
        raise ValueError("the URL's host is not known") from None
    if not found or not all(map(is_public, found)):
        raise ValueError("the URL leads to an address that is not public")
    return found


def is_public(text: str) -> bool:
    """Also of addresses that hold another one."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo and address.teredo[1])
        if address in ipaddress.ip_network("64:ff9b::/96"):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner))
        if address.is_site_local or address in DOCUMENTATION:
            return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _ask(url: str, most: int, deadline: float, halt: Halt) -> bytes | str:
    """What is there, or where it is instead."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme not in ("http", "https") or parts.username is not None:
        raise ValueError("the URL is none that can be fetched")
    connection = _Pinned(host, port, public_addresses(host, port)[0], tls=parts.scheme == "https")
    timer = threading.Timer(max(deadline - time.monotonic(), 0), connection.give_up)
    timer.start()
    try:
        with halt.by(connection.give_up):
            return _read(connection, _target(parts), most)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        raise ValueError(f"the URL cannot be fetched ({type(error).__name__})") from None
    finally:
        timer.cancel()
        connection.close()


def _read(connection: "_Pinned", target: str, most: int) -> bytes | str:
    connection.request("GET", target, headers={"Accept": "image/*", "User-Agent": "rlaifv-jax"})
    reply = connection.getresponse()
    if reply.status in (301, 302, 303, 307, 308) and (place := reply.getheader("Location")):
        return place
    if reply.status != 200:
        raise ValueError(f"the URL answers with status {reply.status}")
    data = b""
    while chunk := reply.read1(CHUNK):
        data += chunk
        if len(data) > most:
            raise ValueError(f"the picture has more than {most} bytes")
    if connection.late:
        raise ValueError("the picture takes too long to come")
    return data


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


class _Pinned(http.client.HTTPConnection):
    """To one address of a host, whatever its name says by now."""

    def __init__(self, host: str, port: int, address: str, *, tls: bool):
        super().__init__(host, port, timeout=SLOW)
        self.address, self.tls, self.late = address, tls, False
        self.opened: socket.socket | None = None  # also when the reply has taken `sock` over

    def connect(self) -> None:
        self.sock = socket.create_connection((self.address, self.port), self.timeout)
        if self.tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)
        self.opened = self.sock

    def give_up(self) -> None:
        """From another thread: whatever is waited for ends."""
        self.late = True
        if self.opened:
            with suppress(OSError):
                self.opened.shutdown(socket.SHUT_RDWR)
