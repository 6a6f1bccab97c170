"""Images and batches a second on one core: this project's input pipeline against transformers' and TRL's.

    python -m benchmarks.loader --json loader.json

First case, the same image files in memory: decode, resize the shorter edge to 336 (bicubic), crop the centre. Ours and
`hf_pil_uint8` stop at uint8 pixels, which must be equal; `hf_pil` and `hf_torchvision` go on to normalised float32, as
those processors do by default (here that happens on the device). Second case, whole batches from a parquet file:
StepBuilder against TRL's vision collator, where TRL is installed. Times are those of one pass over all files.
"""

import io
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from benchmarks import options, timing
from benchmarks.model import SMALL, Sizes
from benchmarks.pairs import Lengths, Pair, image_processor, kind_of_pictures, make_pairs, pictures
from rlaifv_jax.data import images
from rlaifv_jax.data.batch import Batch
from rlaifv_jax.data.encode import Encoder
from rlaifv_jax.data.index import admit, scan
from rlaifv_jax.data.loader import Loader
from rlaifv_jax.data.packing import PassPlan
from rlaifv_jax.data.rows import RowShape
from rlaifv_jax.data.schema import open_source
from rlaifv_jax.data.templates import TEMPLATES
from rlaifv_jax.data.tokenizer import load_tokenizer

TOKENIZER = Path(__file__).parent.parent / "rlaifv_jax/shapes/models/policy"
MAX_LENGTH = 2048


def ours(file: bytes, size: int) -> np.ndarray:
    """uint8[size, size, 3]."""
    return images.center_crop(images.decode(file), size)


def opened(file: bytes) -> Image.Image:
    return Image.open(io.BytesIO(file)).convert("RGB")


def image_calls(files: Sequence[bytes], sizes: Sizes) -> dict[str, Callable[[], list[np.ndarray]]]:
    """Everybody's pass over the files, one at a time as a data worker works."""
    pil = image_processor(sizes)

    def uint8(file: bytes) -> np.ndarray:
        found = pil(opened(file), do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
        return found.transpose(1, 2, 0)

    found: dict[str, Callable[[bytes], np.ndarray]] = {
        timing.OURS: lambda file: ours(file, sizes.image_size),
        "hf_pil_uint8": uint8,
        "hf_pil": lambda file: pil(opened(file), return_tensors="np")["pixel_values"][0],
    }
    if find_spec("torchvision"):
        from transformers import CLIPImageProcessor

        fast = CLIPImageProcessor(**_size(sizes))
        found["hf_torchvision"] = lambda file: fast(opened(file), return_tensors="pt")["pixel_values"][0].numpy()
    return {name: _over(call, files) for name, call in found.items()}


def _over(call: Callable[[bytes], np.ndarray], files: Sequence[bytes]) -> Callable[[], list[np.ndarray]]:
    return lambda: [call(file) for file in files]


def _size(sizes: Sizes) -> dict[str, Any]:
    size = sizes.image_size
    return {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}


def step_builder(pairs: Sequence[Pair], sizes: Sizes, folder: Path) -> Callable[[], Batch]:
    """Batch 0 of a data set that holds these pairs, one a row, from its parquet file on every call."""
    column = {
        "image": [{"bytes": pair.picture, "path": None} for pair in pairs],
        **{
            name: [" ".join(f"word {token}" for token in part(pair)) for pair in pairs]
            for name, part in (
                ("question", lambda pair: pair.prompt[pair.prompt >= 0]),
                ("chosen", lambda pair: pair.answers[0]),
                ("rejected", lambda pair: pair.answers[1]),
            )
        },
    }
    pq.write_table(pa.table(column), folder / "pairs.parquet")
    source = open_source(str(folder / "pairs.parquet"))
    encoder = Encoder(load_tokenizer(TOKENIZER), TEMPLATES["llava_v1"], sizes.square, MAX_LENGTH, "dpo")
    index = admit(scan(source, encoder, progress=False))
    shape = RowShape(int(index.lengths.max()), int(index.sizes.targets.max()), sizes.square.tile)
    build = Loader(source, encoder, index, PassPlan(index.sizes, shape, rows=len(pairs))).build
    return lambda: build(0)[1]


def trl_collator(pairs: Sequence[Pair], sizes: Sizes) -> Callable[[], Any]:
    """TRL's collator on the same pictures, decoded in the clock as a data set of `datasets` decodes them."""
    from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

    from benchmarks.trl_dpo import processor, row

    collate = DataCollatorForVisionPreference(processor=processor(sizes))
    return lambda: collate([row(pair, sizes) for pair in pairs])


def main() -> None:
    parser = options.make_parser(__doc__, rounds=9, pairs="preference pairs in the batch of the second case")
    options.add_photos(parser)
    chosen = parser.parse_args()

    timing.limit_cores(1)
    files = pictures(chosen.photos, 30)
    found = image_calls(files, SMALL)
    for mine, theirs in zip(found[timing.OURS](), found["hf_pil_uint8"](), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    times = timing.interleave(found, chosen.rounds)
    setting = {
        "files": len(files),
        "pictures": kind_of_pictures(chosen.photos),
        "mean_kb": round(sum(map(len, files)) / len(files) / 1e3),
        "images_a_second": ", ".join(f"{name} {len(files) / min(t.wall):.0f}" for name, t in times.items()),
        "pixels_equal_to_hf_pil": True,
    }
    cases = [timing.case("image files to pixels, one core", times, setting)]

    if find_spec("trl"):
        pairs = make_pairs(chosen.pairs, SMALL, Lengths(), chosen.photos)
        with tempfile.TemporaryDirectory() as folder:
            builders = {
                timing.OURS: step_builder(pairs, SMALL, Path(folder)),
                "trl_collator": trl_collator(pairs, SMALL),
            }
            times = timing.interleave(builders, chosen.rounds)
        cases.append(timing.case("batch of pairs, one core", times, {"pairs": chosen.pairs}))
    timing.report(cases, chosen.json)


if __name__ == "__main__":
    main()
