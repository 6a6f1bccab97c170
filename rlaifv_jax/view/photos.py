"""Pictures for a browser: what decodes as one, and nothing else that a row may name."""

import html
import io
import textwrap

from PIL import Image

from rlaifv_jax.data import images
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.pages.thumbnail import BROKEN, LONGEST, small

AS_THEY_ARE = ("JPEG", "PNG", "WEBP", "GIF")  # that every browser shows
Served = tuple[bytes, str]  # with its media type


def whole(data: bytes) -> Served:
    """The picture as it is stored, or as PNG where browsers know no such thing. Raises `BadRow` for what is none."""
    decoded = images.decode(data)
    with Image.open(io.BytesIO(data), formats=images.FORMATS) as opened:
        format = opened.format or ""
    if format in AS_THEY_ARE:
        return data, f"image/{format.lower()}"
    stream = io.BytesIO()
    decoded.save(stream, "PNG")
    return stream.getvalue(), "image/png"


def thumbnail(data: bytes) -> Served:
    """A small copy, as JPEG. Raises `BadRow` for what is no picture."""
    images.size(data)  # refuses what is too large or in another format before anything is decoded
    stream = io.BytesIO()
    try:
        small(data, LONGEST).save(stream, "JPEG", quality=80)
    except BROKEN as error:
        raise BadRow("image_undecodable", str(error)) from None
    return stream.getvalue(), "image/jpeg"


def in_its_place(note: str) -> Served:
    """A picture of why there is none."""
    lines = textwrap.wrap(note, 34)[:6]
    rows = "".join(
        f'<tspan x="150" dy="{1.4 if place else -0.7 * (len(lines) - 1)}em">{html.escape(line)}</tspan>'
        for place, line in enumerate(lines)
    )
    drawn = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 200" width="300" height="200">'
        "<style>text{fill:#66625c;font:14px system-ui,sans-serif}rect{fill:none;stroke:#a39e95;stroke-dasharray:4}"
        "@media (prefers-color-scheme:dark){text{fill:#a39e95}rect{stroke:#66625c}}</style>"
        f'<rect x=".5" y=".5" width="299" height="199" rx="8"/><text y="105" text-anchor="middle">{rows}</text></svg>'
    )
    return drawn.encode("utf-8", "replace"), "image/svg+xml"


def told(data: bytes) -> str:
    """Size of a picture, for people. Raises `BadRow` for what is none."""
    width, height = images.size(data)
    return f"{width} × {height} pixels, {max(len(data) // 1000, 1):,} kB"
