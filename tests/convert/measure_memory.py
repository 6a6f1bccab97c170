"""Run as a program: resident memory while a model is read, written and read again. Prints one JSON object.

    python tests/convert/measure_memory.py FOLDER [layers]

Figures are bytes at the highest point beyond what was resident before the model was touched.
"""

import json
import resource
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

CONFIG = {
    "model_type": "llava_llama",
    "vocab_size": 32000,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_attention_heads": 16,
    "rms_norm_eps": 1e-5,
    "mm_projector_type": "mlp2x_gelu",
    "vision_config": {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 28,
        "patch_size": 14,
    },
}


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


def write_model(folder: Path, layers: int) -> tuple[int, int]:
    """A random bfloat16 model in the original layout; returns its size and that of its largest tensor."""
    from convert import layouts
    from convert.llava import table
    from convert.safetensors_file import ShardWriter
    from rlaifv_jax.models.blueprint import blueprint, flat
    from rlaifv_jax.models.families import LLAVA, parse_llava

    folder.mkdir(parents=True)
    raw = CONFIG | {"num_hidden_layers": layers}
    (folder / "config.json").write_text(json.dumps(raw))
    config = parse_llava(raw, "config.json")
    shapes = {path: leaf.shape for path, leaf in flat(blueprint(LLAVA.module, config).shapes).items()}
    sizes = []

    def tensors() -> Any:
        rng = np.random.default_rng(0)
        for entry in table(config):
            shape = entry.theirs(shapes[entry.path][entry.layer is not None :])
            tensor = rng.standard_normal(shape, np.float32).astype(ml_dtypes.bfloat16)
            sizes.append(tensor.nbytes)
            yield layouts.ORIGINAL.full(entry.part, entry.name), tensor

    ShardWriter(folder, 200 * 10**6).write(tensors())
    return sum(sizes), max(sizes)


def main() -> None:
    folder, layers = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20
    import jax

    from convert.export import export_model
    from convert.load import open_model
    from convert.orbax_dir import save_params
    from rlaifv_jax.parallel import make_mesh

    size, largest = write_model(folder / "hf", layers)
    mesh = make_mesh(1, 1, 1, jax.devices()[:1])
    jax.block_until_ready(jax.jit(lambda: jax.numpy.zeros(8) + 1)())
    figures = {"model": size, "largest": largest}

    def measure(name: str, action: Any) -> Any:
        before = resident()
        with Peak() as peak:
            result = action()
        figures[name] = peak.bytes - before
        return result

    source = open_model(folder / "hf")
    loaded = [measure("load", lambda: source.load(mesh))]
    source.save_assets(folder / "ours")
    measure("save", lambda: save_params(folder / "ours", loaded[0]))
    loaded.clear()
    ours = open_model(folder / "ours")
    measure("load_orbax", lambda: ours.load(mesh))
    measure("load_float32", lambda: source.load(mesh, lambda path: np.float32))
    size_limit = 100 * 10**6
    measure("export", lambda: export_model(ours, folder / "out", "original", shard_bytes=size_limit))
    shutil.rmtree(folder / "out")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
