"""The bytes behind an image URL: base64 in the request; a file or the web where that is allowed."""

import base64
import binascii
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from PIL import Image

from rlaifv_jax.data import images
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.serving.protocol import ApiError
from rlaifv_jax.serving.remote import Halt, fetch


@dataclass(frozen=True)
class Sources:
    """web: whether http(s) URLs are fetched. folder: files below it may be named; None: none at all. most_bytes: of a
    file. most_pixels: of a picture. seconds: for one from the web."""

    web: bool
    folder: Path | None
    most_bytes: int
    most_pixels: int
    seconds: float

    def fetched(self, url: str, field: str, halt: Halt) -> bytes:
        """What is at a URL of the web; `halt` ends it. field: of the request, for messages. Raises `ApiError`."""
        try:
            if not self.web:
                raise ValueError("this server fetches nothing from the web; send the picture as a data: URL in base64")
            return fetch(url, self.most_bytes, self.seconds, halt)
        except ValueError as error:
            raise ApiError(400, f"{field}: {error}", field) from None

    def picture(self, url: str, field: str, fetched: bytes | None = None) -> Image.Image:
        """RGB. fetched: what `url` had, if it is one of the web. Raises `ApiError`."""
        try:
            data = self._bytes(url) if fetched is None else fetched
            width, height = images.size(data)
            if width * height > self.most_pixels:
                raise ValueError(f"{width}x{height} pixels; at most {self.most_pixels} are taken")
            return images.decode(data)
        except BadRow as fault:
            raise ApiError(400, f"{field}: no picture that can be read: {fault.detail}", field) from None
        except ValueError as error:
            raise ApiError(400, f"{field}: {error}", field) from None

    def _bytes(self, url: str) -> bytes:
        """Raises ValueError, with a message for the client."""
        scheme = _scheme(url)
        if scheme == "data":
            return _inline(url, self.most_bytes)
        if scheme == "file" and self.folder:
            return _local(url, self.folder, self.most_bytes)
        others = [*(["http(s): URLs"] if self.web else []), *(["file: URLs"] if self.folder else [])]
        also = f"; {' and '.join(others)} are taken, too" if others else ""
        raise ValueError(f"a data: URL in base64 is needed (data:image/png;base64,…){also}")


def is_web(url: str) -> bool:
    """Whether the picture has to be fetched, see `Sources.fetched`."""
    return _scheme(url) in ("http", "https")


def _scheme(url: str) -> str:
    return url[:6].partition(":")[0].lower()


def _inline(url: str, most: int) -> bytes:
    head, comma, data = url.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ValueError("the data: URL has no base64 (data:image/png;base64,…)")
    try:
        found = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the data: URL holds no valid base64") from None
    if len(found) > most:
        raise ValueError(f"the picture has {len(found)} bytes; at most {most} are taken")
    return found


def _local(url: str, folder: Path, most: int) -> bytes:
    """A file below `folder`, symbolic links followed first. What lies elsewhere and what is not there look alike."""
    refused = ValueError("no picture of that name may be read here")
    try:
        parts = urlsplit(url)
        path = os.path.realpath(unquote(parts.path, errors="strict"))
        if parts.netloc not in ("", "localhost") or not Path(path).is_relative_to(os.path.realpath(folder)):
            raise refused
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except (OSError, ValueError):
        raise refused from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise refused
    with os.fdopen(file, "rb") as opened:
        data = opened.read(most + 1)
    if len(data) > most:
        raise ValueError(f"the picture has more than {most} bytes")
    return data
