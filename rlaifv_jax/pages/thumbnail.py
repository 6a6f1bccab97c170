"""Small copies of pictures beside a page, which loads them when they come into sight."""

import hashlib
import io
from pathlib import Path

from PIL import Image, ImageOps

from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.pictures import read_image
from rlaifv_jax.places import is_remote, put, scratch

LONGEST = 448  # pixels of the longer side
BROKEN = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)  # what Pillow raises for damaged files


def write_thumbnail(image: str, data: Path | None, folder: Path) -> str | None:
    """Write `folder`/NAME.jpg, at most LONGEST pixels, once for all uses of the same picture; return NAME.jpg.

    image: base64, or a path, a relative one from `data`. None if there is no such file, or it is no picture.
    """
    try:
        encoded = read_image({"image": image}, None if data is None else str(data))
    except BadRow:
        return None
    if encoded is None:
        return None
    target = folder / f"{hashlib.sha256(encoded).hexdigest()[:20]}.jpg"
    if not target.exists():
        try:
            picture = small(encoded, LONGEST)
        except BROKEN:
            return None
        folder.mkdir(parents=True, exist_ok=True)
        partial = scratch("thumbnail") / target.name if is_remote(target) else target.with_suffix(".partial")
        picture.save(partial, "JPEG", quality=85)
        put(partial, target)
    return target.name


def small(encoded: bytes, longest: int) -> Image.Image:
    """At most `longest` pixels on the longer side, upright, as RGB, on white where it is transparent."""
    with Image.open(io.BytesIO(encoded)) as source:
        source.draft("RGB", (longest, longest))
        picture = ImageOps.exif_transpose(source).convert("RGBA")
    picture.thumbnail((longest, longest))
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")
