"""OmniLMM against timm's tower, PyTorch's attention and transformers' Mistral: float32, random weights and norms."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from convert.load import StoredModel, open_model
from rlaifv_jax.chat import Chat
from rlaifv_jax.data.batch import IMAGE_TOKEN
from rlaifv_jax.data.images import CLIP_MEAN, square
from rlaifv_jax.feedback.labeler import answer_tokens
from rlaifv_jax.feedback.rules import WORDS
from rlaifv_jax.models.blueprint import Params
from rlaifv_jax.models.hf_config import CLIP_STD
from rlaifv_jax.models.layers import PLAIN
from rlaifv_jax.models.seeing import normalize
from rlaifv_jax.ops.resize import bicubic
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.settings import Sampling
from tests.convert.omnilmms import TinyOmniLmm, write_small_world, write_tokenizer
from tests.feedback.chain import make, make_config, read_lines, read_stage, write_answers
from tests.parity.forward import our_logits, pixels, rows
from tests.sampling.talker import pictures


class Pair(NamedTuple):
    theirs: TinyOmniLmm
    checkpoint: StoredModel
    params: Params


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    theirs = TinyOmniLmm()
    checkpoint = open_model(theirs.write(tmp_path_factory.mktemp("omnilmm")))
    return Pair(theirs, checkpoint, checkpoint.load(make_mesh(1, 1, 1, jax.devices()[:1])))


def test_tower(pair: Pair) -> None:
    config = pair.checkpoint.config
    images = pixels(rows(config, 99), config)
    with torch.no_grad():
        theirs = pair.theirs.vision.forward_features(images)[:, 1:].numpy()
    ours = pair.checkpoint.blueprint.module(pair.params).vision(images.permute(0, 2, 3, 1).numpy(), PLAIN)
    assert ours.shape == (2, 16, 64)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


def test_resampler(pair: Pair) -> None:
    features = np.random.default_rng(0).normal(size=(3, 16, 64)).astype(np.float32)
    with torch.no_grad():
        theirs = pair.theirs.resampler(torch.from_numpy(features)).numpy()
    ours = pair.checkpoint.blueprint.module(pair.params).resampler(features)
    np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("was", "side"), [(2, 4), (16, 32), (4, 4), (5, 3), (3, 10)])
def test_interpolation_of_positions(was: int, side: int) -> None:
    table = np.random.default_rng(0).normal(size=(was, was, 8)).astype(np.float32)
    grid = torch.from_numpy(table).permute(2, 0, 1)[None]
    theirs = torch.nn.functional.interpolate(grid, (side, side), mode="bicubic", align_corners=False)[0]
    np.testing.assert_allclose(bicubic(table, side), theirs.permute(1, 2, 0).numpy(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_logits(pair: Pair, seed: int) -> None:
    """The rows are longer than the window, so a wrong window shows."""
    config = pair.checkpoint.config
    batch = rows(config, 99, seed)
    assert config.decoder.window is not None
    assert config.decoder.window < batch.tokens.shape[1]
    ids, image = (torch.from_numpy(array).long() for array in (batch.tokens, batch.patches))
    with torch.no_grad():
        theirs = pair.theirs.logits(ids, image, pixels(batch, config)).numpy()
    ours = our_logits(pair.checkpoint.blueprint, pair.params, batch)
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)
    assert np.abs(theirs).max() > 0.5


# ------------------------------------------------------------------------------- speaking


class Spoken(NamedTuple):
    theirs: TinyOmniLmm
    speaker: Speaker


@pytest.fixture(scope="module")
def spoken(tokenizer_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Spoken:
    """A window of 40, which prompts of some 90 positions go beyond."""
    theirs = TinyOmniLmm(vocab=649, window=40, seed=1, gain=2)
    tokenizer = write_tokenizer(tmp_path_factory.mktemp("tokenizer"), tokenizer_dir)
    folder = theirs.write(tmp_path_factory.mktemp("spoken"), tokenizer=tokenizer)
    return Spoken(theirs, Speaker(folder, dtype="float32"))


def reference_logits(spoken: Spoken, prompt: Prompt, answer: list[int]) -> torch.Tensor:
    """float32[V] behind a prompt and the beginning of an answer."""
    ids, image = [], []
    patch = spoken.speaker.tokenizer.encode("<im_patch>")[-1]
    for token in prompt.encoded.prefix.tolist():
        here = range(4) if token == IMAGE_TOKEN else [-1]
        ids += [patch if token == IMAGE_TOKEN else token] * len(here)
        image += here
    image += [-1] * len(answer)
    assert prompt.image is not None
    config = spoken.speaker.model.config
    pixels = (
        np.asarray(normalize(prompt.image.pixels[0], config.image_mean, config.image_std)).transpose(2, 0, 1).copy()
    )
    with torch.no_grad():
        return spoken.theirs.logits(
            torch.tensor([ids + answer]), torch.tensor([image]), torch.from_numpy(pixels)[None]
        )[0, -1]


def test_pixels() -> None:
    """Against transformers' processor of PIL pictures, told to resize and not to crop: no border, no proportions."""
    processor = CLIPImageProcessorPil(size={"height": 448, "width": 448}, do_center_crop=False)
    rng = np.random.default_rng(0)
    for shape in ((60, 90, 3), (90, 50, 3), (448, 448, 3), (20, 1000, 3)):
        picture = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8))
        theirs = processor(picture, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        ours = normalize(square(picture, 448, "squash"), CLIP_MEAN, CLIP_STD)
        np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("question", ["what ?", "describe the image .", "is there a red car on the table ?"])
def test_generation_is_token_for_token(spoken: Spoken, question: str) -> None:
    picture = pictures(3)[1]
    prompt = spoken.speaker.prompter.prompt(question, picture, question)
    assert prompt.positions > 40
    (found,) = spoken.speaker.engine(Sampling(max_new_tokens=24)).generate([prompt])
    ours = list(found.answers[0].tokens)
    theirs: list[int] = []
    while len(theirs) < 24 and theirs[-1:] != [2]:
        theirs.append(int(reference_logits(spoken, prompt, theirs).argmax()))
    assert ours == theirs
    assert len(set(ours)) > 3


def test_chat(spoken: Spoken) -> None:
    """Beams that are drawn, as the original's chat.py; the seed decides."""
    chat = Chat(spoken.speaker.model.directory, dtype="float32")
    assert (chat.settings.num_beams, chat.settings.temperature, chat.settings.top_k) == (3, 0.6, 30)
    assert (chat.settings.top_p, chat.settings.repetition_penalty) == (0.9, 1.1)
    picture = pictures(1)[0]
    found = [chat.chat(picture, "what ?", seed=seed, max_new_tokens=12) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


# ------------------------------------------------------------------------------- labelling


@pytest.fixture(scope="module")
def labeler(tmp_path_factory: pytest.TempPathFactory) -> Spoken:
    """With a tokenizer in which yes and no that begin a line are one token."""
    tokenizer = tmp_path_factory.mktemp("tokenizer")
    theirs = TinyOmniLmm(vocab=write_small_world(tokenizer), window=40, seed=2, gain=2)
    folder = theirs.write(tmp_path_factory.mktemp("labeler"), tokenizer=tokenizer)
    return Spoken(theirs, Speaker(folder, dtype="float32"))


def test_scores_are_the_reference_s(labeler: Spoken, tmp_path: Path) -> None:
    """P(word) behind the prompt: whole conversations there, branches of one prefix here."""
    encode = labeler.speaker.tokenizer.encode
    ids = [encode(f"\n<|assistant|>\n{word}")[-1] for word in ("yes", "no")]  # how the original finds them
    tokens = answer_tokens(labeler.speaker.prompter, "score.model")
    assert [tokens.ids[WORDS.index(word)] for word in ("yes", "no")] == ids
    write_answers(tmp_path, 2)
    out = make(make_config(tmp_path, labeler.speaker.model.directory), "divide", "question", "score")
    records = read_stage(out / "score")
    assert len(records) > 10
    for record in records[::3]:
        with Image.open(tmp_path / record["metainfos"]["image_path"]) as picture:
            prompt = labeler.speaker.prompter.prompt(record["raw_question"], picture.convert("RGB"), "x")
        chances = reference_logits(labeler, prompt, []).softmax(-1)
        for word, token in zip(("yes", "no"), ids, strict=True):
            assert record["scores"][word] == pytest.approx(float(chances[token]), abs=1e-5)


def test_best_of_n(labeler: Spoken, tmp_path: Path) -> None:
    write_answers(tmp_path, 2)
    model = str(labeler.speaker.model.directory)
    out = make(make_config(tmp_path, best_of_n__policy=model, best_of_n__by="likelihood"), "best_of_n")
    values = read_stage(out / "best_of_n" / "policy")
    answers = read_lines(tmp_path / "answers.jsonl")
    for record, value in list(zip(answers, values, strict=True))[::3]:
        with Image.open(tmp_path / record["metainfos"]["image_path"]) as picture:
            prompt = labeler.speaker.prompter.prompt(record["raw_question"], picture.convert("RGB"), "x")
        words = labeler.speaker.tokenizer.encode(f"</s>\n<|assistant|>\n{record['answer']}</s>")
        words = words[len(labeler.speaker.tokenizer.encode("</s>\n<|assistant|>\n")) :]
        total = sum(
            float(reference_logits(labeler, prompt, words[:n]).log_softmax(-1)[token]) for n, token in enumerate(words)
        )
        assert value["tokens"] == len(words)
        assert value["log_prob"] == pytest.approx(total, abs=1e-4 * len(words))
