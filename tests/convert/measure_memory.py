"""Run as a program: resident memory while a model is read, written and read again. Prints one JSON object.

    python tests/convert/measure_memory.py FOLDER [layers]

Figures are bytes at the highest point beyond what was resident before the model was touched.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.import_model import Peak, resident, write_checkpoint

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


def main() -> None:
    folder, layers = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20
    import jax

    from convert.export import export_model
    from convert.load import open_model
    from convert.orbax_dir import save_params
    from convert.write_params import write_params
    from rlaifv_jax.models.families import LLAVA, parse_llava
    from rlaifv_jax.parallel import make_mesh

    raw = CONFIG | {"num_hidden_layers": layers}
    size, largest = write_checkpoint(folder / "hf", LLAVA, parse_llava(raw, "config.json"), raw, 200 * 10**6)
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
    source.save_assets(folder / "imported")
    measure("import", lambda: write_params(folder / "imported", source.leaves, source.blueprint))
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
