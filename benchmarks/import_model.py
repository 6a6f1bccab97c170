"""Import of a model of published sizes with random weights: peak memory, and GB/s beside those of a plain copy.

    python -m benchmarks.import_model --model openbmb/OmniLMM-12B --folder /disk/with/50/GB

The checkpoint (bfloat16, normally distributed, shard by shard) is written to FOLDER/hf once and kept; what is imported
goes to FOLDER/ours and is removed. Prints one JSON object.
"""

import argparse
import json
import os
import resource
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

SHARD_BYTES = 5 * 10**9


def resident() -> int:
    """Resident bytes of this process, mapped files included."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Peak:
    """The most memory that was resident inside a `with` block, looked at every few milliseconds."""

    def __enter__(self) -> "Peak":
        self.bytes = resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(0.003):
            self.bytes = max(self.bytes, resident())

    def __exit__(self, *_: Any) -> None:
        self._stop.set()
        self._thread.join()


def write_checkpoint(folder: Path, family: Any, config: Any, raw: dict[str, Any], shard_bytes: int) -> tuple[int, int]:
    """A random bfloat16 model in the original layout; returns its size and that of its largest tensor."""
    from convert.layouts import named
    from convert.safetensors_file import ShardWriter
    from convert.tables import TABLES
    from rlaifv_jax.models.blueprint import blueprint, flat

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(raw))
    shapes = {path: leaf.shape for path, leaf in flat(blueprint(family.module, config).shapes).items()}
    layout, sizes = named(family.name, "original"), []

    def tensors() -> Iterator[tuple[str, np.ndarray]]:
        rng = np.random.default_rng(0)
        for entry in TABLES[family.name](config):
            if entry.piece:
                continue  # of a tensor that is written already
            shape = entry.theirs(shapes[entry.path][entry.layer is not None :])
            tensor = rng.standard_normal(shape, np.float32).astype(ml_dtypes.bfloat16)
            sizes.append(tensor.nbytes)
            yield layout.full(entry.part, entry.name), tensor

    ShardWriter(folder, shard_bytes).write(tensors())
    return sum(sizes), max(sizes)


def copy(source: Path, target: Path) -> float:
    """Seconds of a plain copy, on the disk when it returns."""
    started = time.perf_counter()
    shutil.copytree(source, target)
    os.sync()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="openbmb/OmniLMM-12B", help="a model of rlaifv_jax.published")
    parser.add_argument("--folder", type=Path, required=True)
    given = parser.parse_args()
    os.environ.setdefault("JAX_PLATFORMS", "cpu")

    from convert.load import import_model, open_model
    from rlaifv_jax import published

    known = published.sizes_of(given.model)
    if known is None:
        parser.error(f"--model: {given.model} is none of {', '.join(published.MODELS)}")
    source, ours = given.folder / "hf", given.folder / "ours"
    if not source.exists():
        write_checkpoint(source, *known, published.MODELS[given.model], SHARD_BYTES)
    size = sum(file.stat().st_size for file in source.iterdir())
    shutil.rmtree(ours, ignore_errors=True)
    model = open_model(source)
    before, started = resident(), time.perf_counter()
    with Peak() as peak:
        import_model(model, ours)
        os.sync()
    seconds = time.perf_counter() - started
    written = sum(file.stat().st_size for file in ours.rglob("*") if file.is_file())
    shutil.rmtree(ours)
    copied = copy(source, given.folder / "copy")
    shutil.rmtree(given.folder / "copy")
    figures = {
        "model": given.model,
        "gigabytes": round(size / 1e9, 2),
        "written, gigabytes": round(written / 1e9, 2),
        "resident before, GB": round(before / 1e9, 2),
        "peak resident, GB": round(peak.bytes / 1e9, 2),
        "import, s": round(seconds, 1),
        "import, GB/s": round(size / seconds / 1e9, 3),
        "copy, s": round(copied, 1),
        "copy, GB/s": round(size / copied / 1e9, 3),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
