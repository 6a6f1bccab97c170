"""Run as a program: turn the shipped LLaVAs of the small world into tiny OmniLMMs.

    python -m tests.shapes.omnilmm DIR        writes DIR/policy and DIR/labeler, some ten minutes on two cores

The decoder is the LLaVA's, widened with zeros to what the resampler's heads ask for. EVA tower and resampler learn to
show it what its own tower and projector show. Then supervised training teaches it the other conversation template.
In a process of its own, since tests compile without optimisation.
"""

import json
import math
import shutil
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import sentencepiece

from configs.shapes import get_config
from convert.load import open_model
from convert.orbax_dir import Notes, save_params, write_assets
from rlaifv_jax.data.tiles import squares
from rlaifv_jax.models.blueprint import Blueprint, Params, blueprint, flat, join, nested, split_frozen
from rlaifv_jax.models.families import OMNILMM
from rlaifv_jax.models.layers import PLAIN
from rlaifv_jax.models.resampler import sin_cos
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.shapes import heldout
from rlaifv_jax.shapes.build import newest
from rlaifv_jax.shapes.datasets import write_sft
from rlaifv_jax.shapes.start import random_weights
from rlaifv_jax.shapes.tasks import LABELER_MIX, POLICY_MIX
from rlaifv_jax.shapes.tower import fit
from rlaifv_jax.train import train
from tests.convert.omnilmms import write_small_world

WIDTH = 128  # of one head of the resampler
VISION = {
    "model_type": "eva02",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,  # positions of four cells, spread over nine
    "patch_size": 16,
    "layer_norm_eps": 1e-6,
}
OWN = {
    "architectures": ["OmniLMMForCausalLM"],
    "model_type": "omnilmm",
    "hidden_size": WIDTH,
    "sliding_window": 1024,
    "image_size": 48,
    "num_query": 9,
    "mm_use_im_start_end": True,
    "vision_config": VISION,
}
MIXES = {"policy": POLICY_MIX, "labeler": LABELER_MIX}
STEPS = {"policy": 500, "labeler": 500}
SCENES = {"policy": 8_000, "labeler": 8_000}
SEEING_STEPS = 1500


def graft(stage: str, folder: Path) -> Path:
    """Write an OmniLMM that sees, with the decoder of the shipped LLaVA of that name."""
    model = open_model(heldout.MODELS / stage)
    teacher = model.load(make_mesh(1, 1, 1, jax.devices()[:1]))
    folder.mkdir(parents=True)
    text = json.loads((heldout.MODELS / stage / "config.json").read_text())["text_config"]
    raw = {**text, **OWN, "vocab_size": write_small_world(folder), "pad_token_id": 2, "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(raw))
    write_assets(folder, [], Notes(OMNILMM.name, "original", "inside", None, VISION))
    config = OMNILMM.parse(raw, "config.json", VISION)
    plan = blueprint(OMNILMM.module, config)
    start = random_weights(plan.shapes, 0)
    queries = config.resampler.queries
    start["resampler"]["position"] = sin_cos(jnp.arange(queries), math.isqrt(queries), WIDTH)
    start["decoder"] = widened(teacher["decoder"], plan.shapes["decoder"])
    for leaf, along in (("embedding", 0), ("head/kernel", 1)):
        start = moved(start, teacher, leaf, along, pieces(heldout.MODELS / stage), pieces(folder))
    save_params(folder, shown(plan, start, model.blueprint, teacher))
    return folder


def widened(decoder: Params, shapes: Params) -> Params:
    """The same function on vectors whose further entries are zero. RMS norms divide by the root of a smaller mean."""
    wide, leaves = flat(shapes), flat(decoder)
    width = leaves["norm/scale"].shape[0]
    found = {}
    for path, leaf in leaves.items():
        if "embedding" in path or path.startswith("head"):
            continue
        more = [(0, there - here) for there, here in zip(wide[path].shape, leaf.shape, strict=True)]
        found[path] = jnp.pad(leaf.astype(jnp.float32), more) * ((width / WIDTH) ** 0.5 if "norm" in path else 1.0)
    blank = {path: jnp.zeros(leaf.shape) for path, leaf in wide.items() if path not in found}
    return nested(found | blank)


def pieces(folder: Path) -> list[str]:
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    return [model.id_to_piece(number) for number in range(model.get_piece_size())]


def moved(start: Params, teacher: Params, leaf: str, along: int, theirs: list[str], ours: list[str]) -> Params:
    """The teacher's numbers of every piece that both vocabularies have; small random ones for the others."""
    path = f"decoder/{leaf}"
    old = np.moveaxis(np.asarray(flat(teacher)[path], np.float32), along, 0)
    new = 0.02 * np.random.default_rng(0).standard_normal((flat(start)[path].shape[along], WIDTH)).astype(np.float32)
    places = {piece: number for number, piece in enumerate(theirs)}
    for number, piece in enumerate(ours):
        if piece in places:
            new[number] = 0
            new[number, : old.shape[1]] = old[places[piece]]
    return nested({**flat(start), path: jnp.asarray(np.moveaxis(new, 0, along))})


def shown(plan: Blueprint, start: Params, theirs: Blueprint, teacher: Params) -> Params:
    """Weights whose image features are the teacher's, as well as can be learnt."""
    learning, still = split_frozen(start, ("decoder", *OMNILMM.never_trained))
    seeing = theirs.module(teacher)

    def loss(weights: Params, images: jax.Array, _: jax.Array) -> tuple[jax.Array, jax.Array]:
        tiles = squares(images)
        wanted = seeing.image_features(tiles, PLAIN)
        found = plan.module(join(weights, still)).image_features(tiles, PLAIN)
        error = jnp.sum((found[..., : wanted.shape[-1]] - wanted) ** 2) + jnp.sum(found[..., wanted.shape[-1] :] ** 2)
        share = error / jnp.sum((wanted - wanted.mean((0, 1))) ** 2)
        return share, share

    weights, told = fit(loss, learning, 0, steps=SEEING_STEPS, batch=64, lr=3e-3)
    print(f"of the variance of what the LLaVA sees, {float(np.mean(told[-20:])):.2%} is not learnt", flush=True)
    return join(weights, still)


def learn(stage: str, model: Path, folder: Path) -> Path:
    """Train on conversations as the LLaVA was (rlaifv_jax/shapes/build.py), the resampler left as it is."""
    config: Any = get_config(stage)
    config.model.path, config.output_dir = str(model), str(folder / "runs" / stage)
    config.data.path = str(folder / f"{stage}.parquet")
    config.train.row_length, config.train.steps, config.train.projector = 0, STEPS[stage], False
    write_sft(Path(config.data.path), SCENES[stage], 0, MIXES[stage], biased=stage == "policy", split=stage)
    train(config)
    return Path(shutil.copytree(newest(folder / "runs" / stage), folder / stage))


def main() -> None:
    folder = Path(sys.argv[1])
    for stage in sys.argv[2:] or MIXES:
        learn(stage, graft(stage, folder / "start" / stage), folder)


if __name__ == "__main__":
    main()
