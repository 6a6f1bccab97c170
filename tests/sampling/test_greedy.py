"""Greedy decoding against transformers' own generation."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from convert.export import export_model
from convert.load import open_model
from convert.orbax_dir import save_params
from rlaifv_jax.data.images import center_crop, pad_to_square
from rlaifv_jax.data.templates import LLAVA_V1, Turn, render_prompt
from rlaifv_jax.data.tokenizer import load_tokenizer
from rlaifv_jax.models.blueprint import flat, nested
from rlaifv_jax.models.hf_config import CLIP_MEAN, CLIP_STD
from rlaifv_jax.models.llava import normalize
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.sampling.greedy import greedy
from rlaifv_jax.shapes import heldout
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


def ours(model: Path, questions: list[str], images: list[Image.Image], **options: Any) -> list[str]:
    checkpoint = open_model(model)
    params = checkpoint.load(make_mesh(1, 1, 1, jax.devices()[:1]), lambda path: jnp.float32)
    return greedy(checkpoint, params, questions, images, **{"max_new_tokens": NEW, **options})


def theirs(model: Path, questions: list[str], images: list[Image.Image], new: int) -> list[str]:
    """Answers of transformers for a model in its own layout, one question at a time."""
    torch = pytest.importorskip("torch")
    from transformers import LlavaForConditionalGeneration

    hf, report = LlavaForConditionalGeneration.from_pretrained(model, dtype=torch.float32, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    tokenizer = load_tokenizer(model)
    image = hf.config.image_token_id
    answers = []
    for question, picture in zip(questions, images, strict=True):
        before, after = render_prompt(LLAVA_V1, [Turn("user", question)], image=True).split("<image>")
        ids = [*tokenizer.encode(before), *[image] * 9, *tokenizer.encode(after)[1:]]
        pixels = np.asarray(normalize(center_crop(pad_to_square(picture), 48), CLIP_MEAN, CLIP_STD)).transpose(2, 0, 1)
        out = hf.eval().generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            pixel_values=torch.from_numpy(np.ascontiguousarray(pixels))[None],
            do_sample=False,
            max_new_tokens=new,
            suppress_tokens=list(range(image, hf.config.text_config.vocab_size)),  # not ours
        )
        answer = [int(token) for token in out[0, len(ids) :]]
        answers.append(tokenizer.decode(answer[: answer.index(2)] if 2 in answer else answer).strip())
    return answers


def test_equals_transformers(model: Path, tmp_path: Path) -> None:
    export_model(open_model(model), tmp_path / "hf", "llava-hf")
    expected = theirs(tmp_path / "hf", QUESTIONS, pictures(), NEW)
    assert ours(model, QUESTIONS, pictures()) == expected
    assert len(set(expected)) == len(expected)


def test_the_shipped_policy_equals_transformers(tmp_path: Path) -> None:
    scenes = heldout.unseen(tmp_path / "heldout.parquet", 6, seed=2)
    questions, images = [s.question for s in scenes], [s.image for s in scenes]
    policy = heldout.MODELS / "policy"
    assert ours(policy, questions, images, max_new_tokens=80) == theirs(policy, questions, images, 80)


def test_batches_do_not_matter(model: Path) -> None:
    together = ours(model, QUESTIONS, pictures())
    assert ours(model, QUESTIONS, pictures(), batch=2) == together
    short = ours(model, QUESTIONS, pictures(), max_new_tokens=1)
    assert all(long.startswith(start) for long, start in zip(together, short, strict=True))


def test_nothing_to_do(model: Path) -> None:
    assert ours(model, [], []) == []
