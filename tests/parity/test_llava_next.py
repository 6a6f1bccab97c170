"""LLaVA-NeXT against transformers' class and image processor: float32, random weights and norms, many sizes."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from peft import PeftModel
from PIL import Image
from transformers import LlavaNextForConditionalGeneration
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

from convert.adapter_files import export_adapter, write_adapter
from convert.export import export_model
from convert.load import StoredModel, open_model
from rlaifv_jax.data.batch import IMAGE_TOKEN, Batch
from rlaifv_jax.data.encode import Answer, Encoded
from rlaifv_jax.data.rows import Item, RowShape, build_rows
from rlaifv_jax.data.tiles import NEWLINE
from rlaifv_jax.errors import UserError
from rlaifv_jax.models.blueprint import Params, blueprint, flat, nested
from rlaifv_jax.models.layers import PLAIN
from rlaifv_jax.models.llava import Llava, LlavaConfig
from rlaifv_jax.models.lora import PATHS, Lora, overlay
from rlaifv_jax.models.seeing import normalize
from rlaifv_jax.parallel import make_mesh
from rlaifv_jax.sampling.load import Speaker
from rlaifv_jax.sampling.prompt import Prompt
from rlaifv_jax.sampling.settings import Sampling
from tests.convert.llava_nexts import TinyLlavaNext
from tests.data.chatml_tokenizer import write_tokenizer
from tests.feedback.chain import make, make_config, read_stage, write_answers
from tests.parity.forward import our_logits

IMAGE = 98
# Every canvas, wider and higher than it, smaller and larger, thin ones, odd ones, and exact fits.
SIZES = (
    *((100, 40), (40, 100), (56, 56), (112, 112), (56, 112), (112, 56), (168, 56), (300, 60), (60, 300), (31, 33)),
    *((57, 55), (20, 20), (400, 300), (300, 400), (113, 111), (167, 57), (1000, 90), (90, 1000), (640, 480), (75, 61)),
    *((61, 75), (8, 200), (200, 8), (129, 47), (250, 125)),
)


class Pair(NamedTuple):
    hf: TinyLlavaNext
    checkpoint: StoredModel
    params: Params


def on_one_device(model: StoredModel) -> Params:
    return model.load(make_mesh(1, 1, 1, jax.devices()[:1]))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    hf = TinyLlavaNext()
    checkpoint = open_model(hf.write(tmp_path_factory.mktemp("next"), "transformers-5"))
    return Pair(hf, checkpoint, on_one_device(checkpoint))


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    rng = np.random.default_rng((seed, *size))
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def items(config: Any, sizes: tuple[tuple[int, int], ...], aspect_ratio: str = "anyres") -> list[Item]:
    """A picture of each size in a prompt of random tokens, and an answer of three."""
    processor, rng, found = config.processor(aspect_ratio), np.random.default_rng(0), []
    for size in sizes:
        prefix = rng.integers(3, IMAGE, 9).astype(np.int32)
        prefix[4] = IMAGE_TOKEN
        answer = Answer(rng.integers(3, IMAGE, 3).astype(np.int32), np.ones(3, bool))
        encoded = Encoded(prefix, (answer,), (False,), processor.placement(size))
        found.append(Item(encoded, processor.cut(picture(size))))
    return found


def batch_of(config: Any, wanted: list[Item]) -> Batch:
    """A row for each, all of one shape."""
    length = max(item.encoded.row_length for item in wanted)
    tiles = max(item.encoded.tiles for item in wanted)
    return build_rows([[item] for item in wanted], RowShape(length, 3, config.tile, images=tiles))


def pixels(config: Any, tiles: np.ndarray) -> torch.Tensor:
    """As transformers takes them: float32[1, tiles, 3, height, width]."""
    normal = np.asarray(normalize(tiles, config.image_mean, config.image_std))
    return torch.from_numpy(normal.transpose(0, 3, 1, 2).copy())[None]


def torch_logits(model: Any, config: Any, batch: Batch, row: int, item: Item, size: tuple[int, int]) -> torch.Tensor:
    """float32[T, V] of a row without its padding."""
    assert item.image is not None
    length = item.encoded.row_length
    ids = np.where(batch.patches[row, :length] == -1, batch.tokens[row, :length], IMAGE)
    return model(
        input_ids=torch.from_numpy(ids).long()[None],
        pixel_values=pixels(config, item.image.pixels),
        image_sizes=torch.tensor([size[::-1]]),
    ).logits[0]


def test_logits_on_pictures_of_many_sizes(pair: Pair) -> None:
    config = pair.checkpoint.config
    wanted = items(config, SIZES)
    assert {item.encoded.tiles for item in wanted} == {3, 4, 5}
    assert len({item.encoded.image_tokens for item in wanted}) > 10
    batch = batch_of(config, wanted)
    ours = our_logits(pair.checkpoint.blueprint, pair.params, batch)
    worst = 0.0
    for row, (item, size) in enumerate(zip(wanted, SIZES, strict=True)):
        with torch.no_grad():
            theirs = torch_logits(pair.hf.torch, config, batch, row, item, size).numpy()
        worst = max(worst, float(np.abs(ours[row, : len(theirs)] - theirs).max()))
        assert worst <= 1e-4, size
        assert np.abs(theirs).max() > 0.5


def test_gradients_reach_the_newline(pair: Pair) -> None:
    config, size = pair.checkpoint.config, (100, 40)
    wanted = items(config, (size,))
    batch = batch_of(config, wanted)

    @jax.jit
    @jax.grad
    def gradient(params: Params) -> jax.Array:
        return jnp.sum(pair.checkpoint.blueprint.module(params).log_probs(batch, PLAIN))

    model = pair.hf.torch
    model.zero_grad()
    table = torch_logits(model, config, batch, 0, wanted[0], size).log_softmax(-1)
    table[batch.sources[0], batch.targets[0]].sum().backward()
    ours = flat(gradient(pair.params))
    theirs = {
        "projector/newline": model.model.image_newline.grad,
        "projector/first/kernel": model.model.multi_modal_projector.linear_1.weight.grad.T,
    }
    for path, expected in theirs.items():
        scale = float(expected.abs().max())
        assert scale > 0
        np.testing.assert_allclose(ours[path], expected.numpy(), atol=1e-5 * scale, rtol=0, err_msg=path)


def test_pixels(pair: Pair) -> None:
    """Tile by tile, in transformers' order."""
    config = pair.checkpoint.config
    edge = config.vision.image_size
    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": edge},
        crop_size={"height": edge, "width": edge},
        image_grid_pinpoints=[[height, width] for width, height in config.canvases],
    )
    for size in SIZES:
        theirs = processor(picture(size), return_tensors="np")["pixel_values"][0]
        ours = pixels(config, config.processor("anyres").cut(picture(size)).pixels)[0]
        np.testing.assert_allclose(ours, theirs, atol=1e-6, rtol=0, err_msg=str(size))


@pytest.mark.parametrize("aspect_ratio", ["pad", "crop", "squash"])
def test_a_single_square_is_seen_as_by_llava(pair: Pair, aspect_ratio: str) -> None:
    """One tile and no newline."""
    config = pair.checkpoint.config
    wanted = items(config, SIZES[:2], aspect_ratio)
    batch = batch_of(config, wanted)
    assert batch.images.shape[1] == 1
    assert not (batch.patches == NEWLINE).any()
    plain = LlavaConfig(config.vision, config.decoder, config.image_mean, config.image_std)
    params = nested({path: leaf for path, leaf in flat(pair.params).items() if path != "projector/newline"})
    expected = our_logits(blueprint(Llava, plain), params, batch)
    np.testing.assert_array_equal(our_logits(pair.checkpoint.blueprint, pair.params, batch), expected)


def test_an_unknown_way_with_pictures(pair: Pair) -> None:
    with pytest.raises(UserError, match="'slices'; this model knows anyres, crop, pad, squash"):
        pair.checkpoint.config.processor("slices")


# ------------------------------------------------------------------------------- adapters


def test_adapters_with_the_projector_and_its_newline(pair: Pair, tmp_path: Path) -> None:
    """What we write opens with PEFT beside transformers' class, and here in both layouts."""
    base, rng = pair.checkpoint, np.random.default_rng(0)
    adapters = Lora(4, 6.0, 0.0, tuple(PATHS), "")
    plan = overlay(base.blueprint, adapters)
    params = flat(pair.params)
    for path, leaf in flat(plan.shapes).items():
        if "/adapter/" in path:
            params[path] = rng.normal(0, 0.1, leaf.shape).astype(np.float32)
        elif path.startswith("projector/"):
            params[path] = np.asarray(params[path] + 0.05 * rng.normal(size=leaf.shape).astype(np.float32))
    trained = {path: leaf for path, leaf in params.items() if path.startswith("projector/") or "/adapter/" in path}
    write_adapter(tmp_path / "ours", trained, base, adapters, str(base.directory))
    config, size = base.config, (100, 40)
    wanted = items(config, (size,))
    batch = batch_of(config, wanted)
    ours = our_logits(plan, nested(params), batch)[0]
    theirs = PeftModel.from_pretrained(TinyLlavaNext().torch, tmp_path / "ours").eval()
    with torch.no_grad():
        expected = torch_logits(theirs, config, batch, 0, wanted[0], size).numpy()
        without = torch_logits(pair.hf.torch, config, batch, 0, wanted[0], size).numpy()
    assert np.abs(without - expected).max() > 0.1
    np.testing.assert_allclose(ours, expected, atol=1e-5, rtol=0)
    opened = open_model(tmp_path / "ours")
    np.testing.assert_array_equal(opened.leaves["projector/newline"].read(None), trained["projector/newline"])
    export_adapter(opened, tmp_path / "original", "original", "keep")
    for path, leaf in flat(on_one_device(open_model(tmp_path / "original"))).items():
        np.testing.assert_array_equal(leaf, flat(on_one_device(opened))[path], err_msg=path)


# ------------------------------------------------------------------------------- speaking and labelling


class Spoken(NamedTuple):
    theirs: Any
    speaker: Speaker

    def asked(self, prompt: Prompt, size: tuple[int, int]) -> dict[str, Any]:
        """The prompt as transformers takes it."""
        assert prompt.image is not None
        spread = np.repeat(prompt.encoded.prefix, prompt.encoded.widths)
        ids = torch.from_numpy(np.where(spread == IMAGE_TOKEN, self.theirs.config.image_token_id, spread)).long()[None]
        return {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": pixels(self.speaker.model.config, prompt.image.pixels),
            "image_sizes": torch.tensor([size[::-1]]),
        }


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Spoken:
    """One checkpoint, whose tokenizer has ChatML's marks, in both forms."""
    folder = tmp_path_factory.mktemp("spoken")
    tokenizer = write_tokenizer(folder / "tokenizer", words=("yes", "no"))
    source = TinyLlavaNext(vocab=640, seed=6).write(folder / "ours", tokenizer=tokenizer)
    export_model(open_model(source), folder / "theirs", "llava-hf")
    theirs = LlavaNextForConditionalGeneration.from_pretrained(folder / "theirs").eval()
    return Spoken(theirs, Speaker(source, dtype="float32"))


@pytest.mark.parametrize("beams", [1, 3])
def test_generation_is_token_for_token(spoken: Spoken, beams: int) -> None:
    speaker = spoken.speaker
    assert speaker.prompter.template.name == "chatml_direct"
    asked = (("what ?", (100, 40)), ("describe the image .", (60, 70)), ("is there a red car ?", (112, 112)))
    prompts = [speaker.prompter.prompt(text, picture(size, 1), text, n) for n, (text, size) in enumerate(asked)]
    found = speaker.engine(Sampling(max_new_tokens=16, num_beams=beams)).generate(prompts)
    said = [list(answers.answers[0].tokens) for answers in sorted(found, key=lambda answers: answers.tag)]
    for prompt, (_, size), ours in zip(prompts, asked, said, strict=True):
        given = spoken.asked(prompt, size)
        theirs = spoken.theirs.generate(
            **given,
            max_new_tokens=16,
            num_beams=beams,
            do_sample=False,
            eos_token_id=list(speaker.ends),
            pad_token_id=0,
        )
        assert ours == theirs[0, given["input_ids"].shape[1] :].tolist()
    assert len(set(map(tuple, said))) == len(said)
    assert all(len(set(tokens)) > 3 for tokens in said)


def test_scores_are_those_of_transformers(spoken: Spoken, tmp_path: Path) -> None:
    """Pictures of several sizes, their questions on shared prefixes; there each question alone."""
    write_answers(tmp_path, 4)
    out = make(make_config(tmp_path, spoken.speaker.model.directory), "divide", "question", "score")
    records = read_stage(out / "score")
    tokens = [spoken.speaker.tokenizer.encode_bare(word)[0] for word in ("yes", "no")]
    sizes = set()
    for record in records[::3]:
        with Image.open(tmp_path / record["metainfos"]["image_path"]) as shown:
            prompt = spoken.speaker.prompter.prompt(record["raw_question"], shown.convert("RGB"), "x")
            sizes.add(shown.size)
            with torch.no_grad():
                chances = spoken.theirs(**spoken.asked(prompt, shown.size)).logits[0, -1].softmax(-1)
        for word, token in zip(("yes", "no"), tokens, strict=True):
            # transformers' vocabulary has rows behind ours, which take some of the whole.
            expected = float(chances[token] / chances[:640].sum())
            assert record["scores"][word] == pytest.approx(expected, abs=1e-5)
    assert len(sizes) == 4
    assert len({record["scores"]["yes"] for record in records}) == 16  # four claims about each picture
