"""Files with random damage, one after the other in a process of its own: `python -m tests.reliability.fuzz KIND FIRST
COUNT FOLDER`.

Prints a line a file: its number, what became of it ('read', 'refused', 'left out N'), seconds; at the end the growth of
the process in bytes. An exception that is no UserError, a crash or a hang ends the lines early.
"""

import io
import json
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from convert.load import import_model, open_model
from rlaifv_jax.data import images
from rlaifv_jax.data.faults import BadRow
from rlaifv_jax.data.index import scan
from rlaifv_jax.data.schema import open_source
from rlaifv_jax.data.tokenizer import load_tokenizer
from rlaifv_jax.errors import UserError, shortened
from tests.data import small

PICTURES = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
SAFE, TORCH = "model.safetensors", "pytorch_model.bin"
KINDS = ("parquet", "jsonl", "image", SAFE, TORCH, "config.json", "tokenizer.model", "tokenizer_config.json")


def damaged(data: bytes, chance: np.random.Generator) -> bytes:
    """One to four of: a bit turned, bytes replaced, cut out, doubled, zeroed, the end gone, a number made huge."""
    work = bytearray(data)
    for _ in range(int(chance.integers(1, 5))):
        if not work:
            break
        first = int(chance.integers(len(work)))
        # Most of what decides lies at the beginning or the end of a file.
        first = {0: first, 1: first % 256, 2: len(work) - 1 - first % min(256, len(work))}[int(chance.integers(3))]
        first %= len(work)
        last = min(first + int(2 ** chance.uniform(0, 8)), len(work))
        kind = int(chance.integers(9))
        if kind > 5:
            work[first] ^= 1 << int(chance.integers(8))
        elif kind == 0:
            work[first:last] = chance.integers(0, 256, last - first, dtype=np.uint8).tobytes()
        elif kind == 1:
            del work[first:last]
        elif kind == 2:
            work[first:first] = work[first:last]
        elif kind == 3:
            work[first:last] = bytes(last - first)
        elif kind == 4:
            del work[first:]
        else:
            work[first : first + 4] = b"\xff\xff\xff\x7f"[: len(work) - first]
    return bytes(work)


def rows(folder: Path, file: Path) -> str:
    """A file of pairs, looked through as before a training run."""
    index = scan(open_source(str(file)), small.encoder(folder / "model"), progress=False)
    return f"left out {len(index.bad)}"


def picture(data: bytes) -> str:
    try:
        images.size(data)
        images.decode(data)
    except BadRow:
        return "left out 1"
    return "read"


def model(folder: Path, copy: Path) -> str:
    """A model, imported, and its tokenizer."""
    import_model(open_model(copy), folder / "imported")
    load_tokenizer(copy).encode("a dog .")
    return "read"


def subject(kind: str, folder: Path, number: int) -> tuple[Path, Callable[[], str]]:
    """A fresh copy of what is to be damaged, and what is then done with it."""
    place = folder / f"{kind}-{number}"
    if kind in ("parquet", "jsonl"):
        shutil.copytree(folder / "pairs", place)
        file = place / ("data.parquet" if kind == "parquet" else "data.jsonl")
        (place / ("data.jsonl" if kind == "parquet" else "data.parquet")).unlink()
        return file, lambda: rows(folder, file)
    if kind == "image":
        place.mkdir()
        file, buffer = place / "picture", io.BytesIO()
        pixels = np.random.default_rng(number).integers(0, 256, (40, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(buffer, PICTURES[number % len(PICTURES)])
        file.write_bytes(buffer.getvalue())
        return file, lambda: picture(file.read_bytes())
    shutil.copytree(folder / ("model-bin" if kind == TORCH else "model"), place)
    return place / kind, lambda: model(folder, place)


def main(kind: str, first: int, count: int, folder: Path) -> None:
    before = 0
    for number in range(first, first + count):
        file, use = subject(kind, folder, number)
        file.write_bytes(damaged(file.read_bytes(), np.random.default_rng([number, KINDS.index(kind)])))
        started = time.perf_counter()
        try:
            found = use()
        except UserError as error:
            found = f"refused: {shortened(' '.join(str(error).split()))}"
        print(json.dumps([number, found, round(time.perf_counter() - started, 2)]), flush=True)
        shutil.rmtree(file.parent)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        before = before or peak  # the first file has loaded all code
    print(json.dumps({"grown": peak - before}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
