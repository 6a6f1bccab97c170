"""Greedy decoding against transformers' own generation."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from convert.export import export_checkpoint
from convert.load import open_checkpoint
from convert.orbax_dir import save_params
from rlaifv_jax.models.blueprint import flat, nested
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.sampling.greedy import greedy
from rlaifv_jax.shapes.start import random_weights, write_directory

QUESTIONS = [
    "describe the image .",
    "what is in the top left ?",
    "is there a small red circle in the middle center ?",
    "what ?",
    "describe a large blue star in the bottom right .",
]
NEW = 24


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaVA with large random weights, which says something else about every picture."""
    folder = tmp_path_factory.mktemp("greedy") / "model"
    plan = write_directory(folder)
    leaves = flat(random_weights(plan.shapes, seed=3))
    leaves = {path: leaf if path.endswith(("/scale", "/bias")) else 2 * leaf for path, leaf in leaves.items()}
    # Tokens 3 … 258 are bytes, which no tokenizer decodes alike; the end is made likely enough to occur.
    head = leaves["decoder/head/kernel"]
    leaves["decoder/head/kernel"] = head.at[:, 3:259].set(0).at[:, 2].multiply(1.5)
    save_params(folder, nested(leaves))
    return folder


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    shapes = [(48, 48, 3), (60, 90, 3), (90, 50, 3), (48, 48, 3), (70, 70, 3)]
    return [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for shape in shapes]


def ours(model: Path, **options: object) -> list[str]:
    checkpoint = open_checkpoint(model)
    params = checkpoint.load(make_mesh(1, 1, 1, jax.devices()[:1]), lambda path: jnp.float32)
    return greedy(checkpoint, params, QUESTIONS, pictures(), max_new_tokens=NEW, **options)  # type: ignore[arg-type]


def test_equals_transformers(model: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import LlavaForConditionalGeneration

    from rlaifv_jax.data.images import center_crop, normalize, pad_to_square
    from rlaifv_jax.data.templates import LLAVA_V1, Turn, render_prompt
    from rlaifv_jax.data.tokenizer import load_tokenizer

    export_checkpoint(open_checkpoint(model), tmp_path / "hf", "llava-hf")
    theirs = LlavaForConditionalGeneration.from_pretrained(tmp_path / "hf", dtype=torch.float32).eval()
    tokenizer = load_tokenizer(model)
    image_id = theirs.config.image_token_id
    expected = []
    for question, picture in zip(QUESTIONS, pictures(), strict=True):
        before, after = render_prompt(LLAVA_V1, [Turn("user", question)], image=True).split("<image>")
        ids = [*tokenizer.encode(before), *[image_id] * 9, *tokenizer.encode(after)[1:]]
        pixels = normalize(center_crop(pad_to_square(picture), 48)).transpose(2, 0, 1)
        out = theirs.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            pixel_values=torch.from_numpy(np.ascontiguousarray(pixels))[None],
            do_sample=False,
            max_new_tokens=NEW,
            suppress_tokens=[image_id, image_id + 1],
        )
        answer = [int(token) for token in out[0, len(ids) :]]
        answer = answer[: answer.index(2)] if 2 in answer else answer
        expected.append(tokenizer.decode(answer).strip())
    assert ours(model) == expected
    assert len(set(expected)) == len(expected)


def test_batches_do_not_matter(model: Path) -> None:
    assert ours(model, batch=2) == ours(model)


def test_no_more_than_asked(model: Path) -> None:
    checkpoint = open_checkpoint(model)
    params = checkpoint.load(make_mesh(1, 1, 1, jax.devices()[:1]), lambda path: jnp.float32)
    short = greedy(checkpoint, params, QUESTIONS, pictures(), max_new_tokens=1)
    assert all(long.startswith(start) for long, start in zip(ours(model), short, strict=True))
    assert greedy(checkpoint, params, [], [], max_new_tokens=1) == []
