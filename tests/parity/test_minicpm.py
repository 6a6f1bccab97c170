"""MiniCPM-V against transformers' Idefics2 tower, PyTorch's attention and transformers' Llama: float32, random
weights and norms."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from PIL import Image

from convert.load import StoredModel, open_model
from rlaifv_jax.chat import Chat
from rlaifv_jax.data.batch import IMAGE_TOKEN, Batch
from rlaifv_jax.data.tiles import Tiles
from rlaifv_jax.feedback.labeler import answer_tokens
from rlaifv_jax.feedback.rules import WORDS
from rlaifv_jax.models.blueprint import Params
from rlaifv_jax.models.layers import PLAIN
from rlaifv_jax.models.siglip import position_ids
from rlaifv_jax.ops.attention import DECODER_BACKENDS
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.settings import Sampling
from tests.convert.minicpms import EDGE, PATCH, TinyMiniCpm
from tests.feedback.chain import make, make_config, read_stage, write_answers
from tests.parity.forward import our_logits


class Pair(NamedTuple):
    theirs: TinyMiniCpm
    checkpoint: StoredModel
    params: Params


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    theirs = TinyMiniCpm()
    checkpoint = open_model(theirs.write(tmp_path_factory.mktemp("minicpm")))
    return Pair(theirs, checkpoint, checkpoint.load(make_mesh(1, 1, 1, jax.devices()[:1])))


def noise(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    """uint8[height, width, 3] of so many patches."""
    return np.random.default_rng(seed).integers(0, 256, (PATCH * rows, PATCH * columns, 3), dtype=np.uint8)


GRIDS = ((4, 4), (3, 5), (6, 3), (1, 24), (24, 1), (2, 7))


def as_tiles(slices: Sequence[np.ndarray], room: int) -> tuple[np.ndarray, np.ndarray]:
    """Patch by patch; 7 where there is none, since nobody shall look there."""
    pixels = np.full((len(slices), room, PATCH**2, 3), 7, np.uint8)
    grids = np.array([(len(picture) // PATCH, picture.shape[1] // PATCH) for picture in slices], np.int32)
    for tile, picture, (rows, columns) in zip(pixels, slices, grids, strict=True):
        for n in range(rows * columns):
            top, left = n // columns * PATCH, n % columns * PATCH
            tile[n] = picture[top : top + PATCH, left : left + PATCH].reshape(-1, 3)
    return pixels, grids


# ------------------------------------------------------------------------------- positions


def by_torch(count: int, side: int) -> np.ndarray:
    """As transformers 4.40 computes it."""
    edges = torch.arange(1 / side, 1.0, 1 / side)
    fractions = torch.arange(0, 1 - 1e-6, 1 / torch.ones(count).sum())
    return torch.bucketize(fractions, edges, right=True).numpy()


@pytest.mark.parametrize("side", [70, 5])
def test_ids_are_those_of_transformers_4_40(side: int) -> None:
    table = position_ids(1152, side)
    assert table.dtype == np.uint8
    for count in range(1, 1153):
        np.testing.assert_array_equal(table[count, :count], by_torch(count, side), err_msg=str(count))
        assert not table[count, count:].any()


def test_ids_are_neither_the_exact_fractions_nor_those_of_later_versions() -> None:
    """Tiles as large as those of common pictures show it."""
    table = position_ids(1152, 70)
    exact = [count for count in range(1, 1153) if (table[count, :count] != 70 * np.arange(count) // count).any()]
    assert len(exact) > 100
    edges = torch.arange(1 / 70, 1.0, 1 / 70)
    for count, different in ((1024, 0), (1014, 0), (1036, 6), (980, 7), (1050, 14)):
        later = torch.bucketize(
            (torch.arange(count) * (1.0 / torch.tensor(count))).clamp(max=1 - 1e-6), edges, right=True
        )
        assert (table[count, :count] != later.numpy()).sum() == different


# ------------------------------------------------------------------------------- tower and resampler


def test_tower(pair: Pair) -> None:
    """Padded rows of several lengths against transformers' packed path, whose ids are the same below 100 patches."""
    slices = [noise(*grid, seed) for seed, grid in enumerate(GRIDS)]
    theirs = pair.theirs.tower(slices).numpy()
    ours = seen(pair, slices)
    for (rows, columns), a, b in zip(GRIDS, ours, theirs, strict=True):
        np.testing.assert_allclose(a[: rows * columns], b[: rows * columns], atol=1e-5, rtol=0)
    assert np.isfinite(ours).all()


@pytest.mark.parametrize("backend", [*DECODER_BACKENDS])
def test_tower_on_all_backends(pair: Pair, backend: str) -> None:
    slices = [noise(*grid, seed) for seed, grid in enumerate(GRIDS)]
    expected, found = seen(pair, slices), seen(pair, slices, backend)
    for (rows, columns), a, b in zip(GRIDS, found, expected, strict=True):
        np.testing.assert_allclose(a[: rows * columns], b[: rows * columns], atol=1e-5, rtol=0)


def seen(pair: Pair, slices: Sequence[np.ndarray], backend: str = "dense") -> np.ndarray:
    pixels, grids = as_tiles(slices, pair.checkpoint.config.tile.shape[0])
    compute = replace(PLAIN, tower_attention=backend)
    model = pair.checkpoint.blueprint.module(pair.params)
    return np.asarray(model.vision(model.normalized(jnp.asarray(pixels)), grids[:, 0] * grids[:, 1], compute))


def test_an_empty_tile_is_finite_and_changes_nothing(pair: Pair) -> None:
    slices = [noise(4, 4), noise(3, 5)]
    pixels, grids = as_tiles(slices, 24)
    model = pair.checkpoint.blueprint.module(pair.params)
    alone = features(model, pixels, grids)
    beside = features(model, np.concatenate([pixels, 0 * pixels[:1]]), np.concatenate([grids, 0 * grids[:1]]))
    np.testing.assert_allclose(beside[:2], alone, atol=1e-5, rtol=0)
    assert np.isfinite(beside).all()


def features(model: Any, pixels: np.ndarray, grids: np.ndarray) -> np.ndarray:
    return np.asarray(model.image_features(Tiles(jnp.asarray(pixels), jnp.asarray(grids)), PLAIN))


def test_resampler(pair: Pair) -> None:
    """Several grids in one batch; what lies behind a grid is noise."""
    hidden = np.random.default_rng(0).normal(size=(len(GRIDS), 24, 24)).astype(np.float32)
    with torch.no_grad():
        theirs = pair.theirs.resampler(torch.from_numpy(hidden), GRIDS).numpy()
    ours = pair.checkpoint.blueprint.module(pair.params).resampler(hidden, jnp.array(GRIDS))
    assert ours.shape == (len(GRIDS), 3, 256)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


# ------------------------------------------------------------------------------- whole model

SIZES = ((80, 60), (EDGE, EDGE))  # the whole and two slices; the whole only


def picture(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_features_of_pictures(pair: Pair) -> None:
    processor = pair.checkpoint.config.processor("slices")
    model = pair.checkpoint.blueprint.module(pair.params)
    for size, count in zip(SIZES, (3, 1), strict=True):
        ours = features(model, *processor.cut(picture(size)))
        theirs = pair.theirs.features(processor.slices(picture(size))).numpy()
        assert ours.shape == (count, 3, 256)
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


def batch_of(pair: Pair, seed: int) -> Batch:
    """A row for each of SIZES: text, what stands for the slices between tokens of their own, text."""
    processor = pair.checkpoint.config.processor("slices")
    length, most = 24, 3
    tokens = np.random.default_rng(seed).integers(0, 280, (len(SIZES), length)).astype(np.int32)
    patches = np.full_like(tokens, -1)
    images = np.zeros((len(SIZES), most, *processor.tile.shape), np.uint8)
    grids = np.zeros((len(SIZES), most, 2), np.int32)
    for row, size in enumerate(SIZES):
        tiles = processor.cut(picture(size))
        images[row, : len(tiles.pixels)], grids[row, : len(tiles.grids)] = tiles
        for number, places in enumerate(processor.placement(size).places):
            patches[row, 3 + 5 * number : 3 + 5 * number + len(places)] = places
    tokens[patches >= 0] = 0
    nothing = np.zeros((len(SIZES), 1), np.int32)
    return Batch(
        tokens=tokens,
        positions=np.tile(np.arange(length, dtype=np.int32), (len(SIZES), 1)),
        segments=np.ones_like(tokens),
        branches=np.zeros_like(tokens),
        patches=patches,
        images=images,
        grids=grids,
        sources=nothing,
        targets=nothing,
        weights=nothing.astype(np.float32),
        owners=nothing,
        reference=nothing.astype(np.float32),
        pairs=np.ones((len(SIZES), 1), np.float32),
    )


@pytest.mark.parametrize("seed", range(3))
def test_logits(pair: Pair, seed: int) -> None:
    """A picture of three slices and one of one in a batch."""
    batch = batch_of(pair, seed)
    cut = pair.checkpoint.config.processor("slices").slices
    theirs = pair.theirs.logits(
        torch.from_numpy(batch.tokens).long(), batch.patches, [cut(picture(size)) for size in SIZES]
    ).numpy()
    ours = our_logits(pair.checkpoint.blueprint, pair.params, batch)
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)
    assert np.abs(theirs).max() > 0.5


# ------------------------------------------------------------------------------- speaking


class Spoken(NamedTuple):
    theirs: TinyMiniCpm
    speaker: Speaker


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Spoken:
    theirs = TinyMiniCpm(seed=1, gain=2)
    return Spoken(theirs, Speaker(theirs.write(tmp_path_factory.mktemp("spoken")), dtype="float32"))


def reference_logits(spoken: Spoken, prompt: Prompt, seen: Image.Image, answer: Sequence[int]) -> torch.Tensor:
    """float32[V] behind a prompt about a picture and the beginning of an answer."""
    assert prompt.encoded.picture is not None
    spots = iter(prompt.encoded.picture.places)
    ids: list[int] = []
    places: list[int] = []
    for token in prompt.encoded.prefix.tolist():
        here = next(spots).tolist() if token == IMAGE_TOKEN else [-1]
        ids += [0 if token == IMAGE_TOKEN else token] * len(here)
        places += here
    cut = spoken.speaker.prompter.processor.slices(seen)
    both = torch.tensor([ids + list(answer)]), np.array([places + [-1] * len(answer)])
    return spoken.theirs.logits(*both, [cut])[0, -1]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("question", ["what ?", "is there a red car on the table ?"])
def test_generation_is_token_for_token(spoken: Spoken, size: tuple[int, int], question: str) -> None:
    prompt = spoken.speaker.prompter.prompt(question, picture(size), question)
    (found,) = spoken.speaker.engine(Sampling(max_new_tokens=16)).generate([prompt])
    ours = list(found.answers[0].tokens)
    ends = {spoken.speaker.tokenizer.eos_id, *spoken.speaker.tokenizer.turn_ends}
    theirs: list[int] = []
    while len(theirs) < 16 and not ends.intersection(theirs[-1:]):
        theirs.append(int(reference_logits(spoken, prompt, picture(size), theirs).argmax()))
    assert ours == theirs
    assert len(set(ours)) > 3


def test_chat(spoken: Spoken) -> None:
    """Draws, as the model's own chat; the seed decides."""
    chat = Chat(spoken.speaker.model.directory, dtype="float32")
    settings = chat.settings
    assert (settings.temperature, settings.top_p, settings.top_k, settings.num_beams) == (0.7, 0.8, 100, 1)
    found = [chat.chat(picture(SIZES[0]), "what ?", seed=seed, max_new_tokens=12) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_scores_are_the_reference_s(spoken: Spoken, tmp_path: Path) -> None:
    """P(word) behind the prompt: whole conversations there, branches of one prefix here."""
    tokens = answer_tokens(spoken.speaker.prompter, "score.model")
    write_answers(tmp_path, 2)
    out = make(make_config(tmp_path, spoken.speaker.model.directory), "divide", "question", "score")
    records = read_stage(out / "score")
    assert len(records) > 10
    for record in records[::3]:
        with Image.open(tmp_path / record["metainfos"]["image_path"]) as image:
            seen = image.convert("RGB")
        prompt = spoken.speaker.prompter.prompt(record["raw_question"], seen, "x")
        chances = reference_logits(spoken, prompt, seen, []).softmax(-1)
        for word, token in zip(WORDS, tokens.ids, strict=True):
            assert record["scores"][word] == pytest.approx(float(chances[token]), abs=1e-5)
