"""Small files that would become huge, or take for ever. `make` writes one; `python -m tests.reliability.bombs NAME
FOLDER` uses it in a process of its own, and prints what became of it, seconds, and by how many bytes the process grew
beyond what a whole file of the kind takes. FOLDER: as tests/reliability/test_fuzz.py makes it.
"""

import io
import json
import pickle
import resource
import shutil
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from rlaifv_jax.errors import UserError, shortened
from tests.reliability import fuzz

MB = 2**20


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A grey PNG of zeros that was never held in memory."""
    line, packer = bytes(width + 1), zlib.compressobj(9)
    pixels = b"".join(packer.compress(line) for _ in range(min(height, 20_000))) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def gif(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "GIF")
    data = bytearray(buffer.getvalue())
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def tiff() -> bytes:
    """A file whose header speaks of 16 EiB."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "TIFF")
    data = bytearray(buffer.getvalue())
    first = struct.unpack("<I", data[4:8])[0]
    for entry in range(struct.unpack("<H", data[first : first + 2])[0]):
        at = first + 2 + 12 * entry
        if struct.unpack("<H", data[at : at + 2])[0] in (256, 257, 278, 279):  # width, length, rows and bytes a strip
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, 2**32 - 1)
    return bytes(data)


PICTURES: dict[str, Callable[[], bytes]] = {
    "png-of-3.6-gigapixels": lambda: png(60_000, 60_000),
    "png-of-169-megapixels": lambda: png(13_000, 13_000),
    "png-with-a-text-of-1-gb": lambda: png(8, 8, (b"zTXt", b"k\0\0" + zlib.compress(bytes(1000 * MB), 9))),
    "png-with-a-profile-of-1-gb": lambda: png(8, 8, (b"iCCP", b"k\0\0" + zlib.compress(bytes(1000 * MB), 9))),
    "gif-of-4-gigapixels": lambda: gif(65_535, 65_535),
    "tiff-of-16-eib": tiff,
}


def long_cell(file: Path) -> None:
    """A question of 1 GB, which is 100 KB here."""
    texts = pa.array(["What is 1?", "a" * (1000 * MB)])
    pq.write_table(
        pa.table({"question": texts, "chosen": ["a", "b"], "rejected": ["c", "d"]}), file, compression="zstd"
    )


def repeated_cell(file: Path) -> None:
    """A million rows of the same 20 KB, 20 GB in all, which stand here once."""
    rows = 10**6
    same = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["word " * 4000]))
    short = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["no"]))
    pq.write_table(pa.table({"question": same, "chosen": short, "rejected": short}), file, row_group_size=rows)


def long_line(file: Path) -> None:
    row = {"question": "word " * (20 * MB), "chosen": "a", "rejected": "b"}
    file.write_text(json.dumps(row) + "\n")


def deep_line(file: Path) -> None:
    file.write_text('{"question": ' + "[" * 10**6 + "\n")


ROWS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "parquet-with-a-cell-of-1-gb": ("data.parquet", long_cell),
    "parquet-of-20-gb-in-one-cell": ("data.parquet", repeated_cell),
    "jsonl-with-a-question-of-100-mb": ("data.jsonl", long_line),
    "jsonl-a-million-brackets-deep": ("data.jsonl", deep_line),
}


def header(model: Path, change: Callable[[dict], None]) -> None:
    file = model / fuzz.SAFE
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8 : 8 + length])
    change(entries)
    text = json.dumps(entries).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def absurd_shape(model: Path) -> None:
    def change(entries: dict) -> None:
        for entry in list(entries.values())[:3]:
            if "shape" in entry:
                entry["shape"] = [2**62, 2**62]

    header(model, change)


def absurd_offsets(model: Path) -> None:
    def change(entries: dict) -> None:
        for entry in entries.values():
            if "shape" in entry:
                entry["data_offsets"] = [0, 2**63]

    header(model, change)


def many_tensors(model: Path) -> None:
    header(
        model,
        lambda entries: entries.update(
            {f"t{n}": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for n in range(10**6)}
        ),
    )


def configured(**changes: object) -> Callable[[Path], None]:
    def change(model: Path) -> None:
        file = model / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def deep_config(model: Path) -> None:
    (model / "config.json").write_text('{"a": ' + "[" * 10**6)


def long_program(model: Path) -> None:
    """A pickle with a string of 2 GB, deflated."""
    with (
        zipfile.ZipFile(model / fuzz.TORCH, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("archive/data.pkl", "w", force_zip64=True) as stream,
    ):
        stream.write(pickle.PROTO + b"\x04" + pickle.BINUNICODE8 + struct.pack("<Q", 2000 * MB))
        for _ in range(2000):
            stream.write(b"a" * MB)
        stream.write(pickle.STOP)


def no_strides(model: Path) -> None:
    """Tensors of 2⁴⁰ elements, all of them the same."""
    import torch

    file = model / fuzz.TORCH
    state = torch.load(file, weights_only=True)
    torch.save({name: torch.zeros(1).expand(2**40) for name in state}, file)


MODELS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "safetensors-of-absurd-shapes": ("model", absurd_shape),
    "safetensors-of-absurd-offsets": ("model", absurd_offsets),
    "safetensors-of-a-million-tensors": ("model", many_tensors),
    "config-of-a-billion-layers": ("model", configured(num_hidden_layers=10**9)),
    "config-of-a-quintillion-columns": ("model", configured(hidden_size=10**18, intermediate_size=10**18)),
    "config-of-a-trillion-words": ("model", configured(vocab_size=10**12)),
    "config-a-million-brackets-deep": ("model", deep_config),
    "pickle-with-a-string-of-2-gb": ("model-bin", long_program),
    "pickle-of-tensors-without-strides": ("model-bin", no_strides),
}
NAMES = (*PICTURES, *ROWS, *MODELS)
READ = ("png-of-169-megapixels",)  # is within what is allowed
FAST = ("png-of-3.6-gigapixels", "config-of-a-billion-layers")
# Arrow makes one array of a column of a row group, of 2 GiB at most, and Python a copy of a cell.
LARGEST = {name: 4 * 2**30 for name in ROWS if "parquet" in name}


def make(name: str, folder: Path) -> None:
    """Write the file, in a copy of what belongs around it."""
    place = folder / f"bomb-{name}"
    if name in PICTURES:
        place.mkdir()
        (place / "picture").write_bytes(PICTURES[name]())
    elif name in ROWS:
        file, write = ROWS[name]
        shutil.copytree(folder / "pairs", place)
        (place / "data.jsonl").unlink()
        (place / "data.parquet").unlink()
        write(place / file)
    else:
        source, change = MODELS[name]
        shutil.copytree(folder / source, place)
        change(place)


def use(name: str, folder: Path) -> tuple[Callable[[], str], Callable[[], str]]:
    """What is done with a whole file of the kind, and with this one."""
    place = folder / f"bomb-{name}"
    if name in PICTURES:
        return lambda: fuzz.picture(png(8, 8)), lambda: fuzz.picture((place / "picture").read_bytes())
    if name in ROWS:
        whole = folder / "pairs" / "data.jsonl"
        return lambda: fuzz.rows(folder, whole), lambda: fuzz.rows(folder, place / ROWS[name][0])
    return lambda: fuzz.model(folder, folder / MODELS[name][0]), lambda: fuzz.model(folder, place)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main(name: str, folder: Path) -> None:
    whole, bomb = use(name, folder)
    whole()
    before, started = peak(), time.perf_counter()
    try:
        found = bomb()
    except UserError as error:
        found = f"refused: {shortened(' '.join(str(error).split()))}"
    print(json.dumps([found, round(time.perf_counter() - started, 2), peak() - before]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
